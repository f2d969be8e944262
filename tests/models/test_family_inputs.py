"""Prompts and pictures of every family: what its own processor makes of them, and as many features as placeholders."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sightline.models.load import load_model, save_merged
from sightline.models.processor import load_parts
from sightline.records import Image, Message, Prompt
from tests.families import ROWS, family_batch, family_loaded, family_prompts, sized_image
from tests.own_processors import OWN_PROCESSORS, SHOWN, own_inputs, own_processor, records
from tests.tiny import tiny_inputs, tiny_policy


@pytest.mark.parametrize("name", OWN_PROCESSORS)
@pytest.mark.parametrize("prompt", SHOWN)
def test_tokens_are_those_of_the_familys_own_processor(name: str, prompt: str):
    loaded = family_loaded(name)
    record = records(SHOWN)[prompt]
    found = tiny_inputs(loaded).prompt(record)
    assert list(found.ids) == own_inputs(name, loaded, record)["input_ids"][0].tolist()


@pytest.mark.parametrize("name", ROWS)
def test_every_picture_has_as_many_placeholders_as_features(name: str):
    loaded = family_loaded(name)
    policy = tiny_policy(loaded)
    for prompt in family_prompts(loaded):
        features = policy.vision.features(prompt.images)
        assert prompt.ids.count(tiny_inputs(loaded).soft_token) == sum(image.num_tokens for image in prompt.images)
        for image in prompt.images:
            assert len(features[image.key]) == image.num_tokens


@pytest.mark.parametrize("name", OWN_PROCESSORS)
def test_tokens_and_features_fit_for_pictures_of_many_shapes(name: str):
    loaded = family_loaded(name)
    inputs, policy, own = tiny_inputs(loaded), tiny_policy(loaded), own_processor(name)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        width, height = rng.integers(8, 96, 2).tolist()
        picture = Pillow.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        held = io.BytesIO()
        picture.save(held, "PNG")
        prompt = Prompt(id="a", messages=(Message(role="user", content=(Image(data=held.getvalue()), "?")),))
        found = inputs.prompt(prompt)
        policy.vision.features(found.images)  # which checks the count
        assert list(found.ids) == own(text=[inputs.render(prompt)], images=[[picture]])["input_ids"][0]


@pytest.mark.parametrize("name", ROWS)
def test_a_saved_checkpoint_is_loaded_with_or_without_its_own_processor_class(name: str, tmp_path: Path):
    loaded = family_loaded(name)
    save_merged(loaded, tmp_path)
    for processor in (load_model(str(tmp_path), dtype="float32").processor, load_parts(str(tmp_path))):
        again = replace(load_model(str(tmp_path), dtype="float32"), processor=processor)
        assert again.family == loaded.family
        batch = family_batch(again)
        assert [prompt.ids for prompt in batch.prompts] == [prompt.ids for prompt in family_prompts(loaded)]
        with torch.no_grad():
            assert torch.equal(tiny_policy(again).score(batch).logprobs, tiny_policy(loaded).score(batch).logprobs)


def test_a_setting_that_the_checkpoint_does_not_name_is_the_processor_classs_own(tmp_path: Path):
    save_merged(family_loaded("llava-onevision"), tmp_path)
    given = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({"num_image_tokens": given["num_image_tokens"]}))
    processor = load_parts(str(tmp_path))
    assert processor.vision_aspect_ratio == "anyres_max_9"
    assert processor.num_image_tokens == 16


SEEN = {
    "llava-clip": ("unit", (16, 16)),
    "llava-siglip": ("unit", (16, 16)),
    "llava-onevision": ("unit", (40, 24)),
    "qwen2-vl": ("thousand", (40, 24)),
    "qwen2.5-vl": ("seen", (40, 24)),
    "qwen3-vl": ("thousand", (40, 24)),
    "idefics3": (None, (32, 32)),
    "smolvlm": (None, (32, 32)),
    "gemma3": (None, (16, 16)),
    "internvl": ("thousand", (40, 24)),
    "paligemma": (None, (16, 16)),
}
"""Frame of published boxes, and size of the frame that the model sees of a picture of 40 x 24."""


@pytest.mark.parametrize("name", ROWS)
def test_the_frame_of_boxes_and_the_size_that_the_model_sees_are_known(name: str):
    loaded = family_loaded(name)
    inputs = tiny_inputs(loaded)
    assert (loaded.family.boxes, inputs.sizes(sized_image(0))[1]) == SEEN[name]
    if name == "qwen2.5-vl":  # 17 x 30 is rounded to whole merged patches
        assert inputs.sizes(sized_image(1)) == ((17, 30), (16, 32))
