"""A folder that somebody else wrote runs nothing when it is opened."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sightline.cli import main
from sightline.config import make_recipe, to_dict
from sightline.environment import environment
from sightline.journal import Journal
from sightline.rewards.scoring import start_scoring

VALUES = {
    "name": "copied",
    "model": {"path": "world:base"},
    "data": {"files": ["pairs.jsonl"]},
    "objective": {"kind": "grpo"},
    "rewards": [{"name": "hostile:reward"}],
    "train": {"steps": 1},
}
BOMB = "import pathlib\npathlib.Path('ran').write_text('x')\ndef reward(completion, context): return 1.0\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.py").write_text(BOMB)
    return tmp_path


def no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"no")


def copied_run(folder: Path, *, trusts: bool) -> None:
    values = {**VALUES, "model": {"path": "world:base", "trust_remote_code": trusts}}
    with Journal.create(folder, to_dict(make_recipe({**values, "out": str(folder)})), {}) as journal:
        journal.write_checkpoint(1, no_weights)


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "run", "--prompt", "What?"],
        ["evaluate", "run", "--tasks", "count", "--scenes", "1"],
        ["export", "run", "out"],
        ["serve", "run", "--port", "0"],
        ["resume", "run"],
        ["train", "run/recipe.yaml"],
    ],
)
def test_a_run_folder_does_not_trust_itself(here: Path, capsys: pytest.CaptureFixture[str], words: list[str]):
    copied_run(here / "run", trusts=True)
    (here / "pairs.jsonl").touch()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "recipe.yaml: model.trust_remote_code: world:base would run Python code of its own; give --trust-" in said
    assert not (here / "ran").exists()


@pytest.mark.parametrize("words", [["resume", "run"], ["train", "run/recipe.yaml"]])
def test_code_that_a_run_folder_names_needs_trust(here: Path, capsys: pytest.CaptureFixture[str], words: list[str]):
    copied_run(here / "run", trusts=False)
    (here / "pairs.jsonl").touch()
    assert main(words) == 2
    assert "rewards: hostile:reward is code that the run folder names; give --trust-remote-code" in (
        capsys.readouterr().err
    )
    assert not (here / "ran").exists()


def test_opening_a_run_imports_nothing_that_it_names(here: Path, capsys: pytest.CaptureFixture[str]):
    copied_run(here / "run", trusts=False)
    assert main(["sample", "run", "--prompt", "What?"]) == 2
    assert "weights.safetensors: holds no tensors that can be read" in capsys.readouterr().err
    assert main(["report", "run"]) == 0
    assert not (here / "ran").exists()


def test_a_recipe_of_ones_own_names_ones_own_code(here: Path, capsys: pytest.CaptureFixture[str]):
    (here / "mine.yaml").write_text(yaml.safe_dump(VALUES))
    assert main(["train", "mine.yaml"]) == 2
    assert "trust" not in capsys.readouterr().err


def test_a_file_beside_the_data_does_not_hide_a_library_from_reward_workers(here: Path):
    for name in ("fractions", "json", "numpy", "socket"):
        (here / f"{name}.py").write_text(BOMB)
    pool = start_scoring("mine:reward", {}) if (here / "mine.py").write_text(BOMB.split("\n")[2]) else None
    assert pool is not None
    pool.close()
    assert not (here / "ran").exists()


def test_a_file_beside_the_data_does_not_hide_a_library_from_the_command(here: Path):
    for name in ("cyclopts", "yaml", "json", "rich", "pydantic"):
        (here / f"{name}.py").write_text(BOMB)
    done = subprocess.run([sys.executable, "-m", "sightline.cli", "recipes", "list"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (here / "ran").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_repository_around_the_data_runs_nothing(here: Path):
    def git(*words: str) -> None:
        subprocess.run(("git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words), check=True, capture_output=True)

    bomb = here / "bomb"
    bomb.write_text("#!/bin/sh\ntouch ran\ncat\n")
    bomb.chmod(0o755)
    git("init", "-q")
    (here / "a.txt").write_text("a")
    (here / ".gitattributes").write_text("*.txt filter=mine\n")
    git("add", "a.txt", ".gitattributes")
    git("commit", "-qm", "a")
    git("config", "core.fsmonitor", str(bomb))
    git("config", "filter.mine.clean", str(bomb))
    (here / "a.txt").write_text("b")
    os.utime(here / "a.txt", (1, 1))
    found = environment()
    assert found["git_dirty"] is True
    assert len(found["git_commit"]) == 40
    assert not (here / "ran").exists()
