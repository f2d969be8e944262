from pathlib import Path

import pytest
import torch
from torch import Tensor

from sightline.batch import ImageInput
from sightline.models.families import LLAVA
from sightline.models.vision import Shelf, Vision
from tests.tiny import (
    PICTURE_TOKENS,
    SHAPE,
    gradients,
    largest_difference,
    picture,
    ragged_batch,
    step_in_micro_batches,
    taken_gradients,
    tiny_policy,
    tiny_trained,
)

PICTURE_BYTES = PICTURE_TOKENS * SHAPE.text_width * 4
TRAINED = {"train_tower": True, "train_projector": True}


@pytest.fixture
def frozen() -> Vision:
    return tiny_policy(tiny_trained("full")).vision


@pytest.fixture
def trained() -> Vision:
    return tiny_policy(tiny_trained("full", **TRAINED)).vision


def test_a_frozen_tower_sees_each_distinct_image_once_per_run(frozen: Vision):
    for _ in range(3):
        found = frozen.features([picture(0), picture(1), picture(0)])
        assert sorted(found) == ["picture-0", "picture-1"]
    assert frozen.num_encoded == 2


def test_a_trained_tower_sees_each_distinct_image_once_per_step(trained: Vision):
    for step in range(1, 4):
        trained.begin_step(trained.portions([picture(0), picture(1), picture(0)], token_budget=100))
        for _ in range(2):
            trained.features([picture(0)])
            trained.features([picture(1), picture(0)])
        trained.end_step()
        assert trained.num_encoded == 2 * step


@pytest.mark.parametrize("options", [{"train_tower": True}, {"train_projector": True}])
def test_features_are_kept_only_when_tower_and_projector_are_frozen(options: dict[str, bool]):
    vision = tiny_policy(tiny_trained("lora", **options)).vision
    assert not vision.frozen
    vision.features([picture(0)])
    vision.features([picture(0)])
    assert vision.num_encoded == 2


def test_kept_features_leave_when_room_is_short_the_least_used_first():
    loaded = tiny_trained("full")
    vision = Vision(loaded.model, LLAVA, keep_bytes=2 * PICTURE_BYTES)
    for seed in (0, 1, 0, 2):  # 1 was used longest ago when 2 comes
        vision.features([picture(seed)])
    assert vision.num_encoded == 3
    vision.features([picture(0), picture(2)])
    assert vision.num_encoded == 3
    vision.features([picture(1)])
    assert vision.num_encoded == 4


def test_more_images_than_there_is_room_for_are_still_all_there():
    loaded = tiny_trained("full")
    vision = Vision(loaded.model, LLAVA, keep_bytes=0)
    wanted = tiny_policy(loaded).vision.features([picture(i) for i in range(3)])
    found = vision.features([picture(i) for i in range(3)])
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_kept_image_that_a_new_one_pushes_out_is_still_handed_over():
    loaded = tiny_trained("full")
    vision = Vision(loaded.model, LLAVA, keep_bytes=PICTURE_BYTES)
    vision.features([picture(0)])
    assert sorted(vision.features([picture(1), picture(0)])) == ["picture-0", "picture-1"]
    assert vision.num_encoded == 2


def test_features_do_not_depend_on_the_images_encoded_with_them(frozen: Vision):
    together = frozen.features([picture(i) for i in range(4)])
    alone = tiny_policy(tiny_trained("full")).vision.features([picture(3)])
    assert torch.equal(together["picture-3"], alone["picture-3"])


@pytest.mark.parametrize("kind", ["qwen2", "siglip"])
@pytest.mark.parametrize(
    "options", [TRAINED, {"train_tower": True}, {"train_projector": True}], ids=lambda o: "+".join(o)
)
def test_a_step_in_micro_batches_gives_tower_and_projector_their_direct_gradients(kind: str, options: dict[str, bool]):
    loaded, batch = tiny_trained("full", kind=kind, **options), ragged_batch(num_answers=2)
    policy = tiny_policy(loaded)
    weights = torch.randn(batch.tokens.shape)
    wanted = gradients(loaded.trained(), (policy.score_plain(batch).logprobs * weights).sum())
    step_in_micro_batches(policy, batch, weights, loaded.trained())
    assert policy.vision.num_encoded == 2
    assert largest_difference(taken_gradients(loaded.trained()), wanted) <= 1e-5


def test_an_abandoned_step_leaves_nothing_behind(trained: Vision):
    trained.begin_step([[picture(0)]])
    trained.abandon_step()
    trained.end_step()
    assert trained.features([picture(0)])["picture-0"].requires_grad


def wrong_count() -> ImageInput:
    def load() -> Tensor:
        return picture(0).load()

    return ImageInput(key="f" * 64, num_tokens=PICTURE_TOKENS + 1, load=load)


def test_features_that_do_not_fit_their_placeholders_are_refused_with_the_image(frozen: Vision):
    with pytest.raises(ValueError, match=r"image ffffffffffff gives 4 features and takes 5 placeholder tokens"):
        frozen.features([wrong_count()])


def shelved(folder: Path, *, seed: int = 0, dtype: str = "float32") -> Vision:
    loaded = tiny_trained("full")
    if seed:
        with torch.no_grad():
            next(LLAVA.tower(loaded.model).parameters()).add_(seed)
    vision = tiny_policy(loaded).vision
    vision.shelf = Shelf(folder, loaded.model, LLAVA, dtype=dtype)
    return vision


def test_features_on_disk_serve_other_runs_with_the_same_tower_alone(tmp_path: Path):
    first, second = shelved(tmp_path), shelved(tmp_path)
    made = first.features([picture(0), picture(1)])
    found = second.features([picture(0), picture(1), picture(2)])
    assert (first.num_encoded, second.num_encoded) == (2, 1)
    assert all(torch.equal(found[key], made[key]) for key in made)
    for other in (shelved(tmp_path, seed=1), shelved(tmp_path, dtype="bfloat16")):
        other.features([picture(0)])
        assert other.num_encoded == 1
    assert not list(tmp_path.glob(".partial*"))
