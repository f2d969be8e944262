import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForImageTextToText

from sightline.batch import Batch
from sightline.models.load import Loaded, choose_trained, fingerprint, load_model, save_merged
from sightline.models.sampler import SamplingParams, sample
from tests.tiny import (
    KINDS,
    ragged_batch,
    tiny_inputs,
    tiny_loaded,
    tiny_model,
    tiny_policy,
    tiny_processor,
    tiny_prompt,
    tiny_trained,
)

Answers = list[str]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves the tiny model, with changes to its configuration."""

    def save(kind: str = "qwen2", **changes: dict[str, Any]) -> Path:
        folder = tmp_path / "model"
        tiny_model(kind).save_pretrained(folder)
        tiny_processor(kind).save_pretrained(folder)
        if changes:
            config = json.loads((folder / "config.json").read_text())
            for part, values in changes.items():
                config[part] |= values
            (folder / "config.json").write_text(json.dumps(config))
        return folder

    return save


def greedy(loaded: Loaded) -> Answers:
    """Greedy answers to prompts with no, one and two pictures, through the processor."""
    inputs = tiny_inputs(loaded)
    prompts = [inputs.prompt(tiny_prompt(str(n), num_images=n, seed=n)) for n in range(3)]
    params = SamplingParams(temperature=0, max_tokens=12)
    found = sample(tiny_policy(loaded), prompts, num=1, params=params, ends=loaded.ends)
    return [inputs.text(group[0].token_ids) for group in found]


def logprobs(loaded: Loaded, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return tiny_policy(loaded).score(batch).logprobs


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_loaded_as_it_was_and_frozen(kind: str, saved: Callable[..., Path]):
    loaded = load_model(str(saved(kind)), dtype="float32")
    assert loaded.family.name == "LLaVA"
    assert not loaded.trained()
    assert loaded.ends[0] == loaded.processor.tokenizer.eos_token_id
    assert torch.equal(logprobs(loaded, ragged_batch()), logprobs(tiny_loaded(kind), ragged_batch()))


def test_a_family_that_is_not_known_is_refused_by_name_before_weights_are_read(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_next"}))
    with pytest.raises(ValueError, match=r"models of type 'llava_next' are not supported .* supported are: llava"):
        load_model(str(tmp_path), dtype="float32")


def test_a_folder_that_does_not_exist_is_refused_with_its_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"model.path: '.*nowhere' could not be loaded"):
        load_model(str(tmp_path / "nowhere"), dtype="float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_weights_in_four_bits_need_a_gpu(saved: Callable[..., Path]):
    with pytest.raises(ValueError, match=r"4bit needs a CUDA GPU, and there is none; leave it out"):
        load_model(str(saved()), dtype="float32", quantise="4bit")


def test_a_folder_without_weights_is_refused_with_its_name(saved: Callable[..., Path]):
    folder = saved()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model.path: '.*model' could not be loaded"):
        load_model(str(folder), dtype="float32")


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_dropout_is_refused_wherever_it_is_set(part: str, saved: Callable[..., Path]):
    with pytest.raises(ValueError, match=r"sets attention_dropout to 0.1: with dropout"):
        load_model(str(saved(**{part: {"attention_dropout": 0.1}})), dtype="float32")


def test_full_training_unfreezes_the_language_model_alone():
    trained = choose_trained(tiny_loaded(), train="full").trained()
    assert trained
    assert all(".vision_tower." not in name and ".multi_modal_projector." not in name for name in trained)
    assert "model.language_model.embed_tokens.weight" in trained


@pytest.mark.parametrize("part", ["vision_tower", "multi_modal_projector"])
def test_tower_and_projector_are_trained_when_asked_for(part: str):
    options = {"train_tower": part == "vision_tower", "train_projector": part == "multi_modal_projector"}
    trained = choose_trained(tiny_loaded(), train="lora", **options).trained()
    outside = {name for name in trained if "lora_" not in name}
    assert outside
    assert all(f".{part}." in name for name in outside)


def test_adapters_sit_in_every_linear_layer_of_the_language_model():
    trained = choose_trained(tiny_loaded(), train="lora", rank=3).trained()
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all("language_model" in name for name in trained)
    assert len(trained) == 2 * 7 * 2
    assert {p.shape[0] for name, p in trained.items() if "lora_A" in name} == {3}


def test_a_scale_below_one_is_kept():
    loaded = choose_trained(tiny_loaded(), train="lora", rank=4, alpha=0.5)
    layers = [module for module in loaded.model.modules() if isinstance(module, LoraLayer)]
    assert {layer.scaling["default"] for layer in layers} == {0.125}


def test_named_targets_alone_get_adapters():
    trained = choose_trained(tiny_loaded(), train="lora", targets=["q_proj", "v_proj"]).trained()
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained} == {"q_proj", "v_proj"}


@pytest.mark.parametrize("targets", [["q_prj"], ["q_proj", "q_prj"]])
def test_a_target_that_no_layer_is_called_is_refused(targets: list[str]):
    with pytest.raises(ValueError, match=r"model.lora.targets: .* is called .*q_prj"):
        choose_trained(tiny_loaded(), train="lora", targets=targets)


def test_a_seed_decides_the_adapters():
    first, same, other = (choose_trained(tiny_loaded(), train="lora", seed=seed).trained() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_is_trained_is_float32_and_the_rest_as_it_was_asked_for(saved: Callable[..., Path]):
    for train in ("lora", "full"):
        loaded = choose_trained(load_model(str(saved()), dtype="bfloat16"), train=train)
        assert {p.dtype for p in loaded.trained().values()} == {torch.float32}
        assert {p.dtype for p in loaded.model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_an_answer_ends_with_the_end_token_that_the_chat_template_writes():
    loaded = tiny_loaded()
    loaded.model.generation_config.eos_token_id = [5, 6]
    processor = copy.copy(loaded.processor)
    template = "{% for m in messages %}{{ m.content[0].text }}{{ end }}{% endfor %}"
    for end, wanted in ((6, 6), (7, 5)):  # what no template writes falls back on the first
        word = loaded.processor.tokenizer.convert_ids_to_tokens(end)
        processor.chat_template = template.replace("{{ end }}", word)
        assert replace(loaded, processor=processor).ends[0] == wanted


def test_the_fingerprint_follows_the_weights():
    loaded = tiny_loaded()
    before = fingerprint(loaded.model)
    assert before == fingerprint(tiny_loaded().model)
    with torch.no_grad():
        loaded.model.model.vision_tower.post_layernorm.weight[0] += 1e-3
    assert fingerprint(loaded.model) != before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_trained_model_saved_whole_gives_the_same_greedy_answers(kind: str, train: str, tmp_path: Path):
    loaded = tiny_trained(train, kind=kind)
    wanted, scores = greedy(loaded), logprobs(loaded, ragged_batch())
    assert wanted != greedy(tiny_loaded(kind)) or train == "full"
    save_merged(loaded, tmp_path / "whole")
    again = load_model(str(tmp_path / "whole"), dtype="float32")
    assert greedy(again) == wanted
    torch.testing.assert_close(logprobs(again, ragged_batch()), scores, atol=1e-5, rtol=0)


def test_an_adapter_kept_apart_gives_the_same_greedy_answers_on_its_base(tmp_path: Path):
    loaded = tiny_trained("lora")
    wanted = greedy(loaded)
    save_merged(loaded, tmp_path / "adapter", keep_adapter=True)
    assert not list((tmp_path / "adapter").glob("model*.safetensors"))
    tiny_model().save_pretrained(tmp_path / "base")
    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base", dtype=torch.float32)
    PeftModel.from_pretrained(base, tmp_path / "adapter")
    again = Loaded(model=base, processor=loaded.processor, family=loaded.family, dtype="float32")
    assert greedy(again) == wanted


def test_a_model_without_adapter_has_none_to_keep(tmp_path: Path):
    with pytest.raises(ValueError, match="has no adapter to keep"):
        save_merged(tiny_trained("full"), tmp_path, keep_adapter=True)
