"""What a run will need, reckoned without its weights: parts that add up, known sizes, and what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from sightline import build
from sightline.build.batches import batch_maker
from sightline.build.estimates import Lengths, Machine, estimate
from sightline.build.loading import load_for_training
from sightline.build.plan import expected_memory, lengths_of, measured_rows, outline_of, time_text
from sightline.build.runs import make_policy, read_data
from sightline.config import make_recipe
from sightline.models.outline import sizes_of
from tests.tiny import tiny_processor
from tests.train.runs import tiny_recipe

CPU = Machine(name="x", kind="cpu", rate=1e11, bandwidth=1e10, memory=None, own=0)


@pytest.fixture(scope="module")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA 1.5 7B as a configuration with a processor; there are no weights."""
    folder = tmp_path_factory.mktemp("seven")
    text = LlamaConfig(vocab_size=32064, hidden_size=4096, intermediate_size=11008, max_position_embeddings=4096)
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=3)
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def big_recipe(folder: Path, **blocks: Any):
    values: dict[str, Any] = {
        "name": "seven",
        "model": {"path": str(folder), "dtype": "bfloat16", "train": "lora", "lora": {"rank": 64}},
        "data": {"files": ["missing.jsonl"]},
        "objective": {"kind": "dpo"},
        "train": {"steps": 100, "groups_per_step": 32},
    }
    for name, block in blocks.items():
        values[name] = values.get(name, {}) | block
    return make_recipe(values)


def test_a_model_is_weighed_without_its_weights(seven_billion: Path):
    recipe = big_recipe(seven_billion, model={"gradient_checkpointing": True})
    found = build.plan(recipe=recipe, gpus=1, gpu="a100", prompt_tokens=640, answer_tokens=100)
    assert 13.0 < found.estimate.memory["weights"] / 2**30 < 14.5, "7.06 billion in bf16, adapters in float32"
    assert found.sizes.trained == pytest.approx(160e6, rel=0.02), "rank 64 beside 7 matrices of 32 layers"
    assert found.estimate.memory["optimiser"] == 8 * found.sizes.trained
    assert found.fits


def test_full_training_does_not_fit_and_says_what_helps(seven_billion: Path):
    recipe = big_recipe(seven_billion, model={"train": "full"}, reference={"kind": "copy"})
    found = build.plan(recipe=recipe, gpus=1, gpu="a100", prompt_tokens=640, answer_tokens=100)
    assert not found.fits
    assert any("does not fit" in note and "model.train: lora" in note for note in found.notes)


def test_checkpointing_and_smaller_micro_batches_save_activations(seven_billion: Path):
    def activations(**blocks: Any) -> int:
        recipe = big_recipe(seven_billion, **blocks)
        found = build.plan(recipe=recipe, gpus=1, gpu="a100", prompt_tokens=640, answer_tokens=100)
        return found.estimate.memory["activations"]

    assert activations(model={"gradient_checkpointing": True}) < activations() / 5
    assert activations(train={"token_budget": 2048}) < activations() / 2


def test_more_gpus_share_the_groups_of_a_step(seven_billion: Path):
    one, eight = (
        build.plan(recipe=big_recipe(seven_billion), gpus=n, gpu="h100", prompt_tokens=640, answer_tokens=100)
        for n in (1, 8)
    )
    assert eight.estimate.step == pytest.approx(one.estimate.step / 8, rel=0.05)
    assert eight.estimate.memory["weights"] == one.estimate.memory["weights"]
    assert any("whole on every GPU" in note for note in eight.notes)


@pytest.mark.parametrize("train", ["lora", "full"])
@pytest.mark.parametrize("tower", [False, True])
def test_an_outline_has_the_sizes_of_the_model(train: str, tower: bool, world: Path, tmp_path: Path):
    model = {"train": train, "train_tower": tower, "train_projector": tower}
    recipe = tiny_recipe(world, tmp_path, model=model)
    assert sizes_of(outline_of(recipe)) == sizes_of(load_for_training(recipe))


def test_lengths_are_those_of_the_data(world: Path, tmp_path: Path):
    recipe = tiny_recipe(world, tmp_path)
    found = lengths_of(recipe, outline_of(recipe))
    loaded = load_for_training(recipe)
    batch = batch_maker(recipe)(read_data(recipe, recipe.data.files, loaded).groups)
    assert found.measured == 12
    assert found.prompt == pytest.approx(sum(len(p.ids) for p in batch.prompts) / 12)
    assert found.answer == pytest.approx(float(batch.lengths.float().mean()))
    assert found.answers == 2


def kept_bytes(recipe) -> int:
    """What the forward pass of a step keeps for its backward pass, tensor by tensor, weights aside."""
    loaded = load_for_training(recipe)
    policy = make_policy(recipe, loaded)
    batch = batch_maker(recipe)(read_data(recipe, recipe.data.files, loaded).groups)
    known = {p.untyped_storage().data_ptr() for p in loaded.model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        scores = policy.score(batch)
    assert scores.logprobs.requires_grad
    return sum(size for place, size in kept.items() if place not in known)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_activations_are_within_a_third_of_what_is_kept(dtype: str, objective: str, tmp_path: Path, pairs: Path):
    recipe = make_recipe(
        {
            "name": "x",
            "out": str(tmp_path),
            "model": {"path": "world:base", "train": "full", "dtype": dtype},
            "data": {"files": [str(pairs)]},
            "objective": {"kind": objective},
            "train": {"groups_per_step": 12, "token_budget": 100_000},
        }
    )
    outline = outline_of(recipe)
    lengths = replace(lengths_of(recipe, outline), spread=0.0)
    found = estimate(recipe, sizes_of(outline), lengths, CPU).memory["activations"]
    assert found / kept_bytes(recipe) == pytest.approx(1.2, rel=0.3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs about drawn scenes."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    return build.world_groups(
        task="describe", split="train", num=16, out=path, annotator="rules", say=lambda line: None
    )


def test_a_run_on_rewards_has_a_cache_and_samples(world: Path, tmp_path: Path):
    blocks = {"objective": {"kind": "grpo"}, "rewards": [{"name": "length"}]}
    recipe = tiny_recipe(world, tmp_path, **blocks)
    sizes = sizes_of(outline_of(recipe))
    lengths = Lengths(prompt=20, image=4, answer=10, answers=8, spread=0.0, num_images=9, measured=1)
    found = estimate(recipe, sizes, lengths, CPU)
    assert found.memory["rollout cache"] > 0
    assert found.seconds["sampling"] > 0
    assert found.peak < sum(found.memory.values()), "sampling and learning take turns"


def test_a_run_says_what_it_expects_in_a_sentence(world: Path, tmp_path: Path):
    assert expected_memory(tiny_recipe(world, tmp_path)).startswith("expected peak memory: about ")


def test_times_are_for_people():
    assert [time_text(s) for s in (4, 400, 40_000, 400_000)] == ["4 seconds", "6.7 minutes", "11.1 hours", "4.6 days"]


def test_a_processor_is_measured_by_few_rows_of_a_large_model(seven_billion: Path, world: Path, tmp_path: Path):
    large = sizes_of(outline_of(big_recipe(seven_billion)))
    small = sizes_of(outline_of(tiny_recipe(world, tmp_path)))
    assert (measured_rows(large), measured_rows(small)) == (44, 2048)
