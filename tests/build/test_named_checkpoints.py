"""RUN@best, RUN@120 and RUN@last name a checkpoint wherever a run is taken; a wrong one lists those that there are."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline import build
from sightline.build.best_of import scorer_of
from sightline.build.reward_models import load_reward_model
from sightline.cli import main
from sightline.journal import Journal, RunError
from tests.train.runs import metrics_of, tensors_of, tiny_recipe


@pytest.fixture(scope="module")
def made(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that gets worse in the end, so that its best checkpoint is not its last."""
    recipe = tiny_recipe(
        world,
        tmp_path_factory.mktemp("named") / "run",
        data={"validation_files": [str(world / "validation.jsonl")]},
        optim={"learning_rate": 0.1},
        train={"steps": 9, "evaluate_every": 1, "save_every": 3, "keep_checkpoints": 2},
    )
    return build.train(recipe, say=lambda line: None)


def test_each_name_is_its_checkpoint(made: Path):
    journal = Journal.open(made)
    best = journal.best()
    assert best is not None
    assert best < 9, "the test needs a run that gets worse in the end"
    for which, step in (("best", best), ("last", 9), ("6", 6), ("9", 9)):
        named = Journal.open(f"{made}@{which}")
        assert (named.folder, named.checkpoint().name) == (made, f"step-{step:06d}")
    assert journal.checkpoint().name == "step-000009"


@pytest.mark.parametrize("which", ["5", "bset", "", "-1", "6" * 30])
def test_a_wrong_name_lists_what_there_is(made: Path, which: str):
    with pytest.raises(RunError, match=r"is no checkpoint that is kept; there are @\d+.* @9, and @last"):
        Journal.open(f"{made}@{which}").checkpoint()


def test_best_of_a_run_that_measured_nothing_says_so(world: Path, tmp_path: Path):
    folder = build.train(tiny_recipe(world, tmp_path / "run", train={"steps": 2}), say=lambda line: None)
    with pytest.raises(RunError, match=r"@best is not known: nothing was measured that would choose it.* there are @2"):
        Journal.open(f"{folder}@best").checkpoint()


def test_the_named_weights_are_loaded_and_exported(made: Path, tmp_path: Path):
    best = Journal.open(made).best()
    kept = load_file(made / "checkpoints" / f"step-{best:06d}" / "weights.safetensors")
    loaded, recipe = build.load_trained(f"{made}@best")
    assert recipe is not None
    assert all(torch.equal(parameter, kept[name]) for name, parameter in loaded.trained().items())
    last, _ = build.load_trained(str(made))
    assert not all(torch.equal(parameter, kept[name]) for name, parameter in last.trained().items())
    assert build.export(run=Path(f"{made}@best"), out=tmp_path / "exported").is_dir()


def test_a_run_goes_on_from_the_step_that_is_named(made: Path, tmp_path: Path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    said: list[str] = []
    build.resume(Path(f"{copy}@6"), say=said.append)
    assert any("going back to step 6" in line for line in said)
    assert metrics_of(copy) == metrics_of(made)
    assert all(torch.equal(value, tensors_of(made)[name]) for name, value in tensors_of(copy).items())


def test_a_report_and_a_reward_model_are_of_a_whole_run(made: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", f"{made}@best"]) == 2
    assert "a report is of a whole run" in capsys.readouterr().err
    assert scorer_of(f"{made}@best").options == {"run": f"{made}@best"}
    with pytest.raises(ValueError, match="a reward model's heads are those of its last checkpoint"):
        load_reward_model(f"{made}@best")
