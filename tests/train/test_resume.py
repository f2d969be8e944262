"""Real processes are killed at many moments; the resumed run ends with the bits of the one that was never killed."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightline.journal import Journal
from tests.train.killing import (
    Moment,
    after_seconds,
    after_steps,
    end_all,
    finish,
    go_on,
    kill_at,
    last_step,
    launch,
    writing_checkpoint,
)
from tests.train.runs import assert_same_run, save_world, tiny_recipe, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.resume]

NUM_STEPS = 150
KILLS_IN_THE_CHAIN = 12


@pytest.fixture(scope="module")
def killed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    save_world(folder, num_groups=30)
    return folder


def write_run(world: Path, out: Path) -> Path:
    """The recipe of one run: DPO with kept reference and validation, in float32 on one thread."""
    recipe = tiny_recipe(
        world,
        out,
        data={"validation_files": [str(world / "validation.jsonl")]},
        train={"steps": NUM_STEPS, "groups_per_step": 4, "save_every": 7, "evaluate_every": 10, "samples": 1},
        optim={"learning_rate": 1e-3},
    )
    return write_recipe(recipe, out.with_suffix(".yaml"))


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="module")
def undisturbed(killed_world: Path) -> Path:
    """The run that was never killed."""
    out = killed_world / "undisturbed"
    status, said, err = finish(launch("train", write_run(killed_world, out)))
    assert status == 0, err
    assert "first batch" in said
    assert last_step(out) == NUM_STEPS
    return out


def test_a_run_killed_again_and_again_ends_as_the_one_that_never_was(killed_world: Path, undisturbed: Path):
    out = killed_world / "chain"
    recipe = write_run(killed_world, out)
    dice = random.Random(20)
    moments: list[Callable[[], Moment]] = [lambda: after_seconds(dice.uniform(0.5, 6))]
    moments += [lambda: after_steps(out, dice.randint(1, 12), dice.uniform(0, 0.05), num_steps=NUM_STEPS)] * 6
    moments += [lambda: after_seconds(dice.uniform(1, 8))]
    moments += [lambda: lambda: bool(writing_checkpoint(out))] * 4
    dice.shuffle(moments)
    num_killed = num_inside = 0
    for moment in moments:
        num_killed += kill_at(go_on(recipe, out), moment())
        num_inside += bool(writing_checkpoint(out))
    assert num_killed == KILLS_IN_THE_CHAIN
    assert num_inside >= 2, "two kills must fall into the writing of a checkpoint"
    assert last_step(out) < NUM_STEPS, "the kills must come before the end"
    status, _, err = finish(go_on(recipe, out))
    assert status == 0, err
    assert_same_run(out, undisturbed)
    assert not writing_checkpoint(out)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_once_ends_as_the_one_that_never_was(seed: int, killed_world: Path, undisturbed: Path):
    out = killed_world / f"once-{seed}"
    recipe = write_run(killed_world, out)
    dice = random.Random(seed)
    moment = after_steps(out, dice.randint(1, NUM_STEPS - 10), dice.uniform(0, 0.1), num_steps=NUM_STEPS)
    assert kill_at(launch("train", recipe), moment)
    status, said, err = finish(launch("resume", out))
    assert status == 0, err
    assert "going on from step" in said or last_step(out) < 7
    assert_same_run(out, undisturbed)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_saves_exits_130_and_says_how_to_go_on(killed_world: Path, undisturbed: Path):
    out = killed_world / "stopped"
    process = launch("train", write_run(killed_world, out))
    moment = after_steps(out, 20, 0.0, num_steps=NUM_STEPS)
    while not moment():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    status, said, err = finish(process)
    assert status == 130
    assert f"sightline resume {out}" in said
    assert "Traceback" not in err
    journal = Journal.open(out)
    assert journal.read_status()["state"] == "interrupted"
    assert journal.latest() is not None
    status, _, err = finish(launch("resume", out))
    assert status == 0, err
    assert_without_samples(out, undisturbed)


def assert_without_samples(out: Path, undisturbed: Path) -> None:
    """A run that was stopped by hand has samples of that checkpoint besides."""
    samples = out / "samples.jsonl"
    samples.write_text((undisturbed / "samples.jsonl").read_text())
    assert_same_run(out, undisturbed)


def test_a_disk_that_is_full_while_a_checkpoint_is_written_ends_in_one_sentence(killed_world: Path, undisturbed: Path):
    out = killed_world / "full"
    latest = Journal.open(undisturbed).latest()
    assert latest is not None
    limit = (latest / "weights.safetensors").stat().st_size // 2048
    status, _, err = finish(launch("train", write_run(killed_world, out), limit_kib=limit))
    assert status == 1
    assert err.count("\n") == 1
    assert err.startswith("sightline: error: ")
    assert "could not be written" in err
    assert f"sightline resume {out}" in err
    assert Journal.open(out).latest() is None
    assert not writing_checkpoint(out)
    status, _, err = finish(launch("resume", out))
    assert status == 0, err
    assert_same_run(out, undisturbed)
