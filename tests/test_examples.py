"""Examples are short, import what exists, and run to their end."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_imports_what_exists(example: Path):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 200
    assert callable(runpy.run_path(str(example))["main"])


@pytest.mark.slow
def test_the_dpo_loop_runs_to_its_end():
    words = ["--scenes", "64", "--test-scenes", "100"]
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "loop_dpo.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("before: ")
    assert [line.split(":")[0] for line in lines[-3:]] == ["after", "hallucination", "coverage"]


@pytest.mark.slow
def test_the_grpo_loop_runs_to_its_end():
    words = ["--steps", "3", "--test-scenes", "40"]
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "loop_grpo.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("step 1 of 3: mean reward ")
    assert [line.split(":")[0] for line in lines[-4:]] == ["mAP", "recall_50", "precision_50", "iou"]
