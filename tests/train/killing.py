"""Processes of the command line that are started, killed at chosen moments, and resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sightline.journal import Journal, recipe_of

SECONDS_TO_START = 120.0
Moment = Callable[[], bool]
launched: list[subprocess.Popen[str]] = []


def end_all() -> None:
    """End every process that is still there."""
    for process in launched:
        process.kill()
        process.communicate()
    launched.clear()


def launch(*words: object, limit_kib: int | None = None) -> subprocess.Popen[str]:
    """The command line in a process of its own, on one thread; no file beyond the limit, if there is one."""
    command = [sys.executable, "-m", "sightline.cli", *map(str, words)]
    if limit_kib is not None:
        command = ["bash", "-c", f'ulimit -f {limit_kib}; exec "$@"', "bash", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe, start_new_session=True)
    launched.append(process)
    return process


def go_on(recipe: Path, out: Path) -> subprocess.Popen[str]:
    """Resume the run, trusting the rewards of the tests that it names, or start it when it was killed too early."""
    return launch("resume", out, "--trust-remote-code") if recipe_of(out) is not None else launch("train", recipe)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS_TO_START)
    return process.returncode, out, err


def last_step(out: Path) -> int:
    rows = Journal(out).read_metrics()
    return int(rows[-1]["step"]) if rows else 0


def kill_at(process: subprocess.Popen[str], moment: Moment) -> bool:
    """SIGKILL at a moment; whether it came before the process ended."""
    until = time.monotonic() + SECONDS_TO_START
    while not moment():
        if process.poll() is not None:
            process.communicate()
            return False
        assert time.monotonic() < until, "the moment did not come"
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def after_steps(out: Path, num: int, seconds: float, *, num_steps: int) -> Moment:
    """So many steps after where the run stands, and a little later; before the last of `num_steps`."""
    wanted = min(last_step(out) + num, num_steps - 1)

    def moment() -> bool:
        time.sleep(0.002)
        if last_step(out) < wanted:
            return False
        time.sleep(seconds)
        return True

    return moment


def after_seconds(seconds: float) -> Moment:
    until = time.monotonic() + seconds
    return lambda: time.sleep(0.002) or time.monotonic() > until


def writing_checkpoint(out: Path) -> list[Path]:
    return list((out / "checkpoints").glob(".partial-step-*"))
