"""The command line: names, flags and help; what they do is in build, imported inside the commands.

Owns argument parsing, what is printed, and the exit status: 0 done, 1 a run that failed, 2 a mistake in what
was asked for, 130 stopped by Ctrl-C. Imports no torch, and lets nothing import it before names, recipes and
files have been checked. SIGHTLINE_TRACEBACK=1 shows where in the code a mistake was found.
"""

import errno
import os
import sys
from collections.abc import Sequence
from itertools import zip_longest

from cyclopts import CycloptsError, UnusedCliTokensError

from sightline.cli import doctor, judges, machine, rewards, rooms, runs, studies, talk
from sightline.cli.parts import ON_STDOUT, app, printable, process_number
from sightline.journal import RunFailed
from sightline.progress import shown
from sightline.stopping import stop_at_once

TOLD = ("train", "resume", "demo", "study", "judge", "serve", "world")
"""Commands whose output is a story."""

__all__ = ["app", "doctor", "judges", "machine", "main", "rewards", "rooms", "runs", "studies", "talk"]


LONGEST = 1200
"""Characters of an error that are shown: what somebody wrote into a file may be long."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; every mistake of the user is one line on stderr."""
    os.environ.setdefault(
        "PYTHONSAFEPATH", "1"
    )  # processes that are started import nothing from the current folder first
    try:
        tokens = list(sys.argv[1:] if arguments is None else arguments)
        with shown(to=sys.stdout if _is_told(tokens) else sys.stderr), stop_at_once():
            status = app(_with_stdout(tokens), exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: that is no mistake
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("sightline: stopped\n")
        return 130
    except (CycloptsError, ValueError, OSError) as error:
        if os.environ.get("SIGHTLINE_TRACEBACK"):
            raise
        whose = f"process {number}: " if (number := process_number()) else ""
        sys.stderr.write(f"sightline: error: {whose}{printable(_sentence(error))}\n")
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        return 1 if full or isinstance(error, RunFailed) else 2


def _is_told(tokens: Sequence[str]) -> bool:
    """Whether stdout tells how the command goes; else it holds what was asked for, and stderr tells."""
    return bool(tokens) and tokens[0] in TOLD and "--json" not in tokens


def _with_stdout(tokens: Sequence[str]) -> list[str]:
    """`evaluate ... --json` with no file behind it means stdout."""
    if not tokens or tokens[0] != "evaluate":
        return list(tokens)
    pairs = zip_longest(tokens, tokens[1:], fillvalue="--")
    return [f"{word}={ON_STDOUT}" if word == "--json" and after.startswith("--") else word for word, after in pairs]


def _sentence(error: Exception) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"{' '.join(error.unused_tokens or ())!r} is one word too many; see --help"
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
