"""Idle OpenMP threads sleep, in every process that loads torch through Sightline, unless the user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TELLS = """
import importlib.abc, os, sys

class Tells(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Tells())
"""
WAYS = {
    "the command": "from sightline.cli import main; main(['evaluate', 'world:base', '--tasks', 'count'])",
    "an import": "import sightline.models.load",
    "an import of the package, then torch": "import sightline; import torch",
    "the first example": "import runpy; runpy.run_path('examples/loop_dpo.py')",
    "the second example": "import runpy; runpy.run_path('examples/loop_grpo.py')",
}


def at_loading(way: str, **given: str) -> str:
    """What the setting is when torch is first asked for, in a process whose environment has `given` alone of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", TELLS + way], capture_output=True, text=True, cwd=ROOT, env=clean | given, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_threads_sleep_before_torch_is_loaded(way: str):
    assert at_loading(way) == "PASSIVE"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_the_user_says_stays(way: str):
    assert at_loading(way, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_processes_that_are_started_have_it_too():
    ask = "import os; print(os.environ['OMP_WAIT_POLICY'])"
    way = f"import sightline, subprocess, sys; subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
    assert at_loading(way) == "PASSIVE"
