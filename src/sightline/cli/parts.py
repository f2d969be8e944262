"""The commands' common parts: the tree of commands, kinds of flags, checks of files, what is printed.

Knows no single command.
"""

import difflib
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from sightline import __version__
from sightline.config import ConfigError
from sightline.progress import console_of

if TYPE_CHECKING:
    from sightline.data.check import CheckReport

app = App(
    name="sightline",
    help="""Align vision-language models with preferences, and say with intervals whether it helped.

    Start with `sightline demo`, then `sightline recipes list`; every command has its own `--help`.

    Example: `sightline train dpo_world --objective.beta 0.2`""",
    version=__version__,
    version_flags=["--version", "-V"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(help="Install completion of commands and options for your shell.")
data = App(name="data", help="Look at preference data, and convert it.")
world = App(name="world", help="The embedded world of drawn scenes, and its tiny model.")
recipes = App(name="recipes", help="The complete runs that ship with the package.")
reward = App(name="reward", help="Rewards: what they measure, how they stand attacks, what they say of answers.")
for subject in (data, world, recipes, reward):
    app.command(subject)

ON_STDOUT = Path("-")
"""What `--json` without a file stands for, in commands whose `--json` takes one."""
SEVERAL = Parameter(consume_multiple=True, negative=(), show_default=False)
FLAG = Parameter(negative=())
JSON = Parameter(name="--json", negative=())
"""Print one JSON object on stdout and nothing else there; how it goes is told on stderr."""
AT_LEAST_ONE = Parameter(validator=Number(gte=1))
NOT_NEGATIVE = Parameter(validator=Number(gte=0))


def printable(text: object) -> str:
    """The text with control characters spelled out: what a model wrote must not steer the terminal."""
    marks = str(text)
    return "".join(mark if mark.isprintable() or mark in "\n\t" else repr(mark)[1:-1] for mark in marks)


def cell(text: object) -> Text:
    """Text of others inside a table: printable, and never markup."""
    return Text(printable(text))


def process_number() -> int:
    """Number of this process among those that a launcher started; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def is_one_of_several() -> bool:
    """Whether a launcher started this process beside others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def say(text: object, *, end: str = "\n") -> None:
    """One line of output, or several; of several processes the first one speaks."""
    if process_number() == 0:
        sys.stdout.write(f"{printable(text)}{end}")


def say_json(value: Mapping[str, Any]) -> None:
    """One JSON object, and nothing else on stdout; what is not finite is null."""
    sys.stdout.write(json.dumps(finite(dict(value)), indent=1, default=str, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Plain values with null in place of what JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(table: Table) -> None:
    """A table, as wide as the terminal; where there is none, as wide as it is."""
    console_of().print(table)


def expect_file(path: Path) -> None:
    """Refuse a file that is not there, with the name of one that is nearly called so."""
    if path.is_file():
        return
    problem = "is a folder; name a file" if path.is_dir() else "does not exist"
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    guess = f"; did you mean {path.with_name(close[0])}?" if close and not path.is_dir() else ""
    raise ConfigError(f"{path} {problem}{guess}")


def expect_nothing(path: Path) -> None:
    """Refuse to write over a file or into a folder that holds something."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"{path} is there already; give a new name, or remove it")


def show_check(report: "CheckReport") -> None:
    """What `data check` found: bad rows first, one line each, the prompts last."""
    for row in report.bad_rows:
        say(row)
    table = Table("file", "rows", "groups", "bad")
    for file in report.files:
        counts = (file.num_rows, file.num_groups, file.num_rows - file.num_groups)
        table.add_row(cell(file.file), *map(str, counts))
    show(table)
    images = f"{report.num_images} ({report.num_distinct_images} distinct)"
    say(f"answers: {report.num_completions}, images: {images}")
    for title, counts in (("signals", report.signals), ("tasks", report.tasks)):
        say(f"{title}: " + (", ".join(f"{num} {name}" for name, num in counts.items()) or "none"))
    for line in report.repeats.lines():
        say(f"look: {line}")
    if report.lengths:
        table = Table("tokens", "smallest", "median", "90%", "99%", "largest")
        for name, spread in report.lengths.items():
            values = (spread.smallest, spread.median, spread.p90, spread.p99, spread.largest)
            table.add_row(name.replace("_", " "), *map(str, values))
        show(table)
    for prompt in report.rendered:
        say(f"\n{prompt.file}:{prompt.line}: prompt {prompt.id}, as the model sees it:\n{prompt.text}")
