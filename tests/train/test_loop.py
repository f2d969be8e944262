"""Whole small runs in this process: what is logged and kept, how they stop, and that they go on as if nothing was."""

import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.config import Recipe
from sightline.journal import Journal, RunFailed
from tests.train.runs import assert_same_run, metrics_of, tiny_recipe

VALIDATED = {"evaluate_every": 3, "samples": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "dpo, full, kept reference": {},
    "dpo, lora, adapter off, validation": {"model": {"train": "lora"}, "train": VALIDATED},
    "dpo, full with tower, copy": {
        "model": {"train_tower": True, "train_projector": True},
        "reference": {"kind": "copy"},
    },
    "sft, lora with projector, checkpointing": {
        "model": {"train": "lora", "train_projector": True, "gradient_checkpointing": True},
        "objective": {"kind": "sft"},
    },
}


class Killed(Exception):
    """Stands for a kill: nothing in the run knows of it."""


def settings(name: str, world: Path) -> dict[str, Any]:
    blocks = dict(SETTINGS[name])
    if "evaluate_every" in blocks.get("train", {}):
        blocks["data"] = {"validation_files": [str(world / "validation.jsonl")]}
    return blocks


def quietly(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
    pass


def at_step(wanted: int, act: Callable[[], None]) -> Callable[[int, int, Mapping[str, float]], None]:
    def show(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
        if step == wanted:
            act()

    return show


def kill() -> None:
    raise Killed


def run(recipe: Recipe, show: Callable[[int, int, Mapping[str, float]], None] = quietly) -> tuple[Path, list[str]]:
    said: list[str] = []
    return build.train(recipe, say=said.append, show=show), said


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(name: str, world: Path, tmp_path: Path):
    whole, _ = run(tiny_recipe(world, tmp_path / "whole", **settings(name, world)))
    cut = tiny_recipe(world, tmp_path / "cut", **settings(name, world))
    for step in (2, 7, 11):
        with pytest.raises(Killed):
            run(cut, at_step(step, kill))
    build.resume(tmp_path / "cut", say=lambda line: None, show=quietly)
    assert_same_run(tmp_path / "cut", whole)


def test_every_step_is_logged_and_the_last_is_saved(world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path / "run", train={"steps": 10, "save_every": 4, "keep_checkpoints": 2})
    folder, said = run(recipe)
    journal = Journal.open(folder)
    assert [row["step"] for row in metrics_of(folder)] == list(range(1, 11))
    assert [path.name for path in journal.checkpoints()] == ["step-000008", "step-000010"]
    assert journal.read_status()["state"] == "done"
    assert any("first batch" in line for line in said)
    row = metrics_of(folder)[0]
    assert row["loss/dpo"] == pytest.approx(0.6931, abs=1e-3)
    assert {"loss/total", "optim/grad_norm", "optim/learning_rate", "reward/margin", "batch/tokens"} <= set(row)


def test_the_best_checkpoint_on_validation_stays_besides_the_last(world: Path, tmp_path: Path):
    blocks = {"data": {"validation_files": [str(world / "validation.jsonl")]}}
    recipe = tiny_recipe(
        world, tmp_path / "run", **blocks, optim={"learning_rate": 0.1}, train={"steps": 9, "evaluate_every": 1}
    )
    folder, _ = run(recipe)
    losses = {row["step"]: row["validation/loss/total"] for row in metrics_of(folder) if row["step"]}
    best = min(losses, key=lambda step: (losses[step], step))
    assert best < 9, "the test needs a run that gets worse in the end"
    kept = [path.name for path in Journal.open(folder).checkpoints()]
    assert kept == [f"step-{best:06d}", "step-000009"]


def test_metrics_are_logged_as_often_as_asked_and_at_the_end(world: Path, tmp_path: Path):
    folder, _ = run(tiny_recipe(world, tmp_path / "run", train={"steps": 10, "log_every": 4}))
    assert [row["step"] for row in metrics_of(folder)] == [4, 8, 10]


def test_an_epoch_reads_every_group_once(world: Path, tmp_path: Path):
    values = {"train": {"steps": None, "epochs": 1}}
    folder, _ = run(tiny_recipe(world, tmp_path / "run", **values))
    assert [row["step"] for row in metrics_of(folder)] == [1, 2, 3]


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_saves_says_how_to_go_on_and_changes_nothing(world: Path, tmp_path: Path):
    whole, _ = run(tiny_recipe(world, tmp_path / "whole"))
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build.train(
            tiny_recipe(world, tmp_path / "cut"),
            say=said.append,
            show=at_step(6, lambda: signal.raise_signal(signal.SIGINT)),
        )
    assert signal.getsignal(signal.SIGINT) == before
    assert f"sightline resume {tmp_path / 'cut'}" in said[-1]
    journal = Journal.open(tmp_path / "cut")
    assert journal.read_status()["state"] == "interrupted"
    assert [path.name for path in journal.checkpoints()] == ["step-000006"]
    build.resume(tmp_path / "cut", say=said.append, show=quietly)
    assert_same_run(tmp_path / "cut", whole)


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond so many bytes: what a full disk does, without filling one; -1 lets them again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_full_disk_ends_the_run_with_a_sentence_and_loses_nothing(
    world: Path, tmp_path: Path, limit_files: Callable[[int], None]
):
    whole, _ = run(tiny_recipe(world, tmp_path / "whole"))
    sentence = r"could not be written \(.*too large.*step-000004 stands untouched; make room"
    with pytest.raises(RunFailed, match=sentence):
        run(tiny_recipe(world, tmp_path / "full"), at_step(6, lambda: limit_files(50_000)))
    limit_files(-1)
    journal = Journal.open(tmp_path / "full")
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["step-000004"]
    assert journal.read_metrics()[-1]["step"] == 8
    build.resume(tmp_path / "full", say=lambda line: None, show=quietly)
    assert_same_run(tmp_path / "full", whole)


def test_three_bad_steps_end_the_run_with_a_sentence_and_keep_their_batches(world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path / "run", optim={"learning_rate": 1e30, "warmup_fraction": 0.0})
    with pytest.raises(RunFailed, match=r"3 steps in a row were not finite .* the last batch is kept in"):
        run(recipe)
    assert Journal.open(tmp_path / "run").read_status()["state"] == "failed"
    assert len(list((tmp_path / "run" / "bad-steps").glob("*.safetensors"))) == 3


def test_a_second_ctrl_c_names_the_last_checkpoint(world: Path, tmp_path: Path):
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        build.train(tiny_recipe(world, tmp_path / "cut"), say=said.append, show=at_step(6, twice), go_on="do this")
    wanted = "stopped; the last checkpoint is that of step 4, and updates after it are made again. Go on with: do this"
    assert said[-1] == wanted
    status = Journal.open(tmp_path / "cut").read_status()
    assert (status["state"], status["step"]) == ("interrupted", 4)


def test_a_run_that_is_stopped_before_its_loop_says_that_nothing_is_saved(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sightline.build.runs.load_for_training", lambda recipe: signal.raise_signal(signal.SIGTERM))
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        build.train(tiny_recipe(world, tmp_path / "cut"), say=said.append)
    again = f"sightline resume {tmp_path / 'cut'}"
    assert said[-1] == f"stopped before the first checkpoint; nothing is saved yet. Go on with: {again}"
    assert Journal.open(tmp_path / "cut").read_status()["state"] == "interrupted"
