"""What a recipe leaves to the machine is settled when the run begins, said, and kept with the run."""

from pathlib import Path

import pytest
import torch

from sightline import build
from sightline.build import loading
from sightline.build.runs import make_policy
from sightline.config import as_begun, make_recipe, to_dict
from sightline.journal import Journal
from sightline.models import arithmetic
from tests.train.runs import save_world, tiny_recipe

SLOW = {"float32": 0.01, "bfloat16": 1.9}
FAST = {"float32": 0.02, "bfloat16": 0.01}
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is asked, not measured")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_world(folder)
    return folder


@pytest.mark.parametrize(("seconds", "dtype"), [(SLOW, "float32"), (FAST, "bfloat16")])
def test_a_run_says_and_keeps_what_it_computes_in(seconds, dtype, world, tmp_path, monkeypatch):
    monkeypatch.setattr(arithmetic, "measured", lambda: seconds)
    said: list[str] = []
    recipe = tiny_recipe(world, tmp_path / "run", model={"dtype": "auto"}, train={"steps": 1})
    folder = build.train(recipe, say=said.append)
    assert [line for line in said if line.startswith(f"arithmetic: {dtype} (")] == said[:1]
    assert Journal.open(folder).recipe()["model"]["dtype"] == dtype
    assert build.load_trained(str(folder))[0].dtype == dtype


def test_a_run_that_goes_on_elsewhere_stays_what_it_was(world, tmp_path, monkeypatch):
    monkeypatch.setattr(arithmetic, "measured", lambda: SLOW)
    recipe = tiny_recipe(world, tmp_path / "run", model={"dtype": "auto"}, train={"steps": 4, "save_every": 2})

    def stop(step, num_steps, metrics):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.train(recipe, say=lambda line: None, show=stop)
    monkeypatch.setattr(arithmetic, "measured", lambda: FAST)
    said: list[str] = []
    folder = build.train(recipe, say=said.append)
    assert "going on from step 2 of 4" in said
    assert not [line for line in said if line.startswith("arithmetic: bfloat16")]
    assert build.load_trained(str(folder))[0].dtype == "float32"


def test_a_run_decodes_on_as_many_threads_as_when_it_began(world, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "one_thread_below", lambda dtype, num_threads: 4e6)
    folder = build.train(tiny_recipe(world, tmp_path / "run", train={"steps": 1}), say=lambda line: None)
    monkeypatch.setattr(loading, "one_thread_below", lambda dtype, num_threads: 9e9)
    begun = make_recipe(Journal.open(folder).recipe())
    again = as_begun(tiny_recipe(world, tmp_path / "run", train={"steps": 1}), begun)
    assert begun.train.one_thread_below == again.train.one_thread_below == 4e6
    assert make_policy(again, build.load_trained(str(folder))[0]).one_thread_below == 4e6


def test_a_plan_is_reckoned_in_the_arithmetic_that_the_run_will_take(world, tmp_path, monkeypatch):
    recipe = tiny_recipe(world, tmp_path / "run", model={"dtype": "auto", "train": "lora"})

    def weights(**where):
        return build.plan(recipe=recipe, prompt_tokens=10, answer_tokens=5, **where).estimate.memory["weights"]

    monkeypatch.setattr(arithmetic, "measured", lambda: SLOW)
    slow, rented = weights(), weights(gpus=1, gpu="a100")
    monkeypatch.setattr(arithmetic, "measured", lambda: FAST)
    assert weights() == rented < slow
    assert make_recipe(to_dict(recipe)).model.dtype == "auto"
