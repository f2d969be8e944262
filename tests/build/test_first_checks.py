"""What a run looks at before its first update: each check holds for a sound model and catches a planted fault."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from sightline import build
from sightline.batch import Batch, ImageInput
from sightline.build.batches import make_reference
from sightline.build.first_checks import about_features, about_gpus, first_checks
from sightline.build.loading import load_for_training
from sightline.build.runs import Data, make_policy, read_data
from sightline.config import Recipe
from sightline.journal import RunFailed
from sightline.models import forward
from sightline.models.attention import TreePlan, Windows
from sightline.models.layout import Layout
from sightline.models.load import Loaded
from sightline.models.reference import Reference
from sightline.models.vision import Vision
from sightline.reports.doctor_page import Line
from tests.tiny import stir_adapters, tiny_model, tiny_processor
from tests.train.runs import tiny_recipe

REWARDS = [{"name": "tests.train.rl_rewards:small_tokens"}]
SAMPLED = {
    "objective": {"kind": "grpo", "kl_weight": 0.1},
    "rewards": REWARDS,
    "rollout": {"max_tokens": 6, "group_size": 2, "reward_workers": 0},
}


def lines_of(
    recipe: Recipe, loaded: Loaded, *, reference: Reference | None = None, data: Data | None = None
) -> dict[str, Line]:
    """Every first check by name."""
    rows = (data or read_data(recipe, recipe.data.files, loaded)).groups
    policy = make_policy(recipe, loaded)
    made = make_reference(recipe, policy, loaded, [rows], lambda line: None)
    return {line.name: line for line in first_checks(recipe, policy, rows, reference or made)}


def states(lines: dict[str, Line]) -> dict[str, str]:
    return {name: line.state for name, line in lines.items()}


@pytest.fixture
def recipe(world: Path, tmp_path: Path) -> Recipe:
    return tiny_recipe(world, tmp_path / "run")


@pytest.fixture
def sampled(world: Path, tmp_path: Path) -> Recipe:
    return tiny_recipe(world, tmp_path / "run", **SAMPLED)


def test_a_sound_run_on_data_passes_all(recipe: Recipe):
    found = lines_of(recipe, load_for_training(recipe))
    assert set(states(found)) == {"image tokens", "picture is read", "reference", "prompt once"}
    assert {line.state for line in found.values()} <= {"pass", "look"}
    assert found["image tokens"].said == "5 pictures, each with as many features as tokens (4)"


@pytest.mark.parametrize("train", ["lora", "full"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_sound_run_on_rewards_passes_all(train: str, temperature: float, world: Path, tmp_path: Path):
    rollout = {"rollout": SAMPLED["rollout"] | {"temperature": temperature}}
    recipe = tiny_recipe(world, tmp_path / "run", **(SAMPLED | rollout | {"model": {"train": train}}))
    found = lines_of(recipe, load_for_training(recipe))
    assert "sampler" in found
    assert {line.state for line in found.values()} <= {"pass", "look"}, found


def test_a_projector_of_zeros_is_a_picture_that_is_not_read(recipe: Recipe):
    loaded = load_for_training(recipe)
    with torch.no_grad():
        for parameter in loaded.family.projector(loaded.model).parameters():
            parameter.zero_()
    line = lines_of(recipe, loaded)["picture is read"]
    assert line.state == "fail"
    assert "the model does not read the picture" in line.said
    assert "projector" in line.cure


def test_pictures_that_all_become_one_are_not_read_either(recipe: Recipe):
    loaded = load_for_training(recipe)
    always = loaded.family.look(loaded.processor, Pillow.new("RGB", (16, 16), (90, 10, 200)), True)
    family = replace(loaded.family, look=lambda processor, picture, alone: always)
    assert lines_of(recipe, replace(loaded, family=family))["picture is read"].state == "fail"


def test_a_processor_that_counts_other_tokens_is_caught_and_stops_the_rest(recipe: Recipe):
    loaded = load_for_training(recipe)
    soft = loaded.family.soft_token(loaded.processor.tokenizer)
    family = replace(loaded.family, spell=lambda processor, look: soft * 5)
    found = lines_of(
        recipe.model_copy(update={"reference": recipe.reference.model_copy(update={"kind": "none"})}),
        replace(loaded, family=family),
    )
    assert states(found) == {
        "image tokens": "fail",
        "picture is read": "skip",
        "reference": "skip",
        "prompt once": "skip",
    }
    assert "gives 4 features and takes 5 placeholder tokens" in found["image tokens"].said
    assert "prompt '" in found["image tokens"].said


def test_a_reference_of_other_weights_is_caught(recipe: Recipe):
    loaded = load_for_training(recipe)
    other = load_for_training(recipe)
    with torch.no_grad():
        other.family.head(other.model).weight.mul_(1.05)
    policy = make_policy(recipe, other)

    def reference(batch: Batch) -> Tensor:
        with torch.no_grad():
            return policy.score(batch).logprobs

    line = lines_of(recipe, loaded, reference=reference)["reference"]
    assert line.state == "fail"
    assert "differs from its reference (cached)" in line.said
    assert "reference.cache" in line.cure


def test_adapters_that_do_not_start_at_zero_are_no_reference(world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path / "run", model={"train": "lora"})
    loaded = load_for_training(recipe)
    assert lines_of(recipe, loaded)["reference"].state == "pass"
    stir_adapters(loaded)
    line = lines_of(recipe, loaded)["reference"]
    assert (line.state, "do not start at zero" in line.cure) == ("fail", True)


def test_a_wrong_layout_is_caught(recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    def shifted(layout: Layout, windows: Windows) -> TreePlan:
        layout.positions.add_((layout.positions > 5).long())
        return TreePlan(layout=layout, windows=windows)

    loaded = load_for_training(recipe)
    monkeypatch.setattr(forward, "TreePlan", shifted)
    line = lines_of(recipe, loaded)["prompt once"]
    assert line.state == "fail"
    assert "differs from the plain one" in line.said


def test_a_sampler_at_another_temperature_is_off_policy(sampled: Recipe):
    loaded = load_for_training(sampled)
    rows = read_data(sampled, sampled.data.files, loaded).groups
    policy = make_policy(sampled, loaded)
    hotter = sampled.model_copy(update={"rollout": sampled.rollout.model_copy(update={"temperature": 1.3})})
    found = {line.name: line for line in first_checks(hotter, policy, rows, None)}
    assert found["sampler"].state == "fail"
    assert "off-policy" in found["sampler"].said


def test_rows_without_pictures_have_nothing_to_read(recipe: Recipe):
    loaded = load_for_training(recipe)
    data = read_data(recipe, recipe.data.files, loaded)
    text_only = Data(groups=[row for row in data.groups if not row[0].prompt.images], skipped=[])
    found = lines_of(recipe, loaded, data=text_only)
    assert states(found) == {
        "image tokens": "skip",
        "picture is read": "skip",
        "reference": "pass",
        "prompt once": "pass",
    }


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    """A saved model whose projector is zero."""
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.zero_()
    model.save_pretrained(tmp_path / "blind")
    tiny_processor().save_pretrained(tmp_path / "blind")
    return tmp_path / "blind"


def test_a_run_stops_before_its_first_update_when_pictures_are_not_read(blind: Path, world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path / "run", model={"path": str(blind)}, train={"steps": 1})
    said: list[str] = []
    with pytest.raises(RunFailed, match=r"picture is read: .*does not read the picture; .*check_first_batch: false"):
        build.train(recipe, say=said.append, show=lambda step, num_steps, metrics: None)
    assert any(line.startswith("expected peak memory: about ") for line in said)


def test_a_run_goes_on_regardless_when_told_to(blind: Path, world: Path, tmp_path: Path):
    train = {"steps": 1, "check_first_batch": False}
    recipe = tiny_recipe(world, tmp_path / "run", model={"path": str(blind)}, train=train)
    build.train(recipe, say=lambda line: None, show=lambda step, num_steps, metrics: None)


def about(recipe: Recipe, **model: object) -> str | None:
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=model)})
    loaded = load_for_training(recipe)
    return about_features(recipe, make_policy(recipe, loaded), read_data(recipe, recipe.data.files, loaded).groups)


def test_a_run_says_what_it_keeps_of_pictures(recipe: Recipe, tmp_path: Path):
    assert about(recipe) == "tower and projector are frozen: features of all 12 pictures are kept in memory (0 MiB)"
    said = about(recipe, features_folder=str(tmp_path / "features"))
    assert said is not None
    assert said.endswith(f"; all of them in {tmp_path / 'features'}")
    assert len(list((tmp_path / "features").iterdir())) == 1
    assert about(recipe, train_tower=True) is None


def test_a_run_says_how_many_pictures_the_bound_holds(recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    whole = Vision.features

    def larger(self: Vision, images: Sequence[ImageInput]) -> dict[str, Tensor]:
        return {key: value.repeat(1, 2**17) for key, value in whole(self, images).items()}

    monkeypatch.setattr(Vision, "features", larger)
    said = about(recipe, kept_features_mib=64)
    assert said is not None
    assert "features of about 1 of 12 pictures are kept in memory (64 of 768 MiB), and the least recently" in said


def test_a_run_on_a_gpu_says_first_that_none_was_tried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert about_gpus() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU of a test")
    said = about_gpus()
    assert said is not None
    assert said.startswith("this is GPU of a test: this version has only ever run on CPU")
