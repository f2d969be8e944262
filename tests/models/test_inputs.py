import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sightline.models.inputs import Inputs, PictureLimits
from sightline.records import Completion, Image, Message, Prompt, RecordError
from tests.families import family_loaded
from tests.tiny import KINDS, PICTURE_TOKENS, png, tiny_inputs, tiny_loaded, tiny_policy, tiny_prompt


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return tiny_inputs(tiny_loaded())


def asked(*parts: str | Image) -> Prompt:
    return Prompt(id="7", messages=(Message(role="user", content=parts),))


def test_a_prompt_is_rendered_by_the_models_own_template(inputs: Inputs):
    assert inputs.render(tiny_prompt("a", num_images=2)) == "USER: <image>\n<image>\nList what you see. ASSISTANT: "


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_tokens_and_pixels_are_those_of_the_models_own_processor(kind: str, num_images: int):
    inputs = tiny_inputs(tiny_loaded(kind))
    prompt = tiny_prompt("a", num_images=num_images)
    found = inputs.prompt(prompt)
    pictures = [Pillow.open(io.BytesIO(image.data or b"")) for image in prompt.images]
    wanted = inputs.processor(text=inputs.render(prompt), images=pictures or None, return_tensors="pt")
    assert list(found.ids) == wanted["input_ids"][0].tolist()
    for image, pixels in zip(found.images, wanted.get("pixel_values", []), strict=True):
        assert torch.equal(image.load(), pixels)
        assert image.num_tokens == PICTURE_TOKENS


def test_images_stand_where_the_message_has_them(inputs: Inputs):
    ids = inputs.prompt(asked("red", Image(data=png(0)), "blue")).ids
    image = inputs.processor.image_token_id
    first = ids.index(image)
    assert ids.count(image) == PICTURE_TOKENS
    assert inputs.text(ids[:first]).endswith("red")
    assert inputs.text(ids[first + PICTURE_TOKENS :]).strip().startswith("blue")


def test_an_image_is_known_by_its_content_and_its_settings():
    inputs = tiny_inputs(family_loaded("qwen2-vl"))
    limited = replace(inputs, limits=PictureLimits(longest_side=8))
    keys = [inputs.image(Image(data=png(seed)), alone=True).key for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert limited.image(Image(data=png(0)), alone=True).key != keys[0]


def test_text_that_spells_the_image_token_is_refused(inputs: Inputs):
    with pytest.raises(RecordError, match="the text of prompt '7' spells '<image>'"):
        inputs.prompt(asked("what is <image> ?"))


def test_an_answer_is_tokenised_apart_and_ends_with_its_end_of_turn(inputs: Inputs):
    ids = inputs.answer(Completion(text=" red circle"))
    assert ids[-1] == inputs.end_of_turn
    assert inputs.end_of_turn not in ids[:-1]
    assert inputs.text(ids) == " red circle"


def test_stored_tokens_are_used_as_they_are(inputs: Inputs):
    assert inputs.answer(Completion(text="another text", token_ids=(9, 8, 7))) == (9, 8, 7)


def test_an_empty_answer_is_refused(inputs: Inputs):
    with pytest.raises(RecordError, match="an answer is empty"):
        inputs.answer(Completion(text=""))


@pytest.mark.parametrize(
    ("text", "token_ids", "problem"),
    [
        ("a <image>", None, "spells '<image>', which stands for a picture"),
        ("a</s> b", None, "spells '</s>', which ends an answer"),
        ("a", (9, 3, 7, 2), "holds '<image>', which stands for a picture"),
        ("a", (9, 3), "holds '<image>', which stands for a picture"),
        ("a", (9, 2, 7), "holds '</s>' inside, which ends an answer"),
    ],
)
def test_an_answer_with_a_token_that_is_no_text_is_refused_with_its_place(
    inputs: Inputs, text: str, token_ids: tuple[int, ...] | None, problem: str
):
    with pytest.raises(RecordError, match=problem) as error:
        inputs.answer(Completion(text=text, token_ids=token_ids), where="completions[1].text")
    assert error.value.where == "completions[1].text"


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl", "llava-onevision"])
def test_the_placeholder_of_videos_is_refused_in_answers_and_prompts(name: str):
    inputs = tiny_inputs(family_loaded(name))
    word = "<video>" if name == "llava-onevision" else "<|video_pad|>"
    with pytest.raises(RecordError, match="which stands for a picture or a video"):
        inputs.answer(Completion(text=f"see {word}"))
    with pytest.raises(RecordError, match="the text of prompt '7' spells"):
        inputs.prompt(asked(f"see {word}"))


def test_a_prompt_that_ends_with_the_assistants_turn_is_refused(inputs: Inputs):
    said = Message(role="assistant", content=("a red",))
    with pytest.raises(RecordError, match="the last turn of prompt '7' is the assistant's own; end with the user"):
        inputs.prompt(Prompt(id="7", messages=(*asked("what?").messages, said)))


def test_turns_that_the_template_does_not_take_are_refused_with_its_words(inputs: Inputs):
    processor = copy.copy(inputs.processor)
    processor.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    prompt = Prompt(id="7", messages=(Message(role="system", content=("be brief",)), *asked("?").messages))
    with pytest.raises(RecordError, match="does not take prompt '7': no system"):
        replace(inputs, processor=processor).render(prompt)


def held(size: tuple[int, int]) -> Image:
    pixels = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return Image(data=buffer.getvalue())


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"])
@pytest.mark.parametrize(
    ("limits", "bounds"),
    [
        (PictureLimits(longest_side=20), (64, 200)),
        (PictureLimits(max_pixels=500), (64, 500)),
        (PictureLimits(min_pixels=900), (900, 1024)),
        (PictureLimits(longest_side=30, max_pixels=200), (64, 200)),
        (PictureLimits(longest_side=100, max_pixels=10_000, min_pixels=10), (64, 1024)),
        (PictureLimits(max_pixels=10), (64, 64)),
    ],
)
def test_a_picture_within_limits_is_what_the_models_own_processor_makes_of_it_in_one_resizing(
    name: str, limits: PictureLimits, bounds: tuple[int, int]
):
    inputs = replace(tiny_inputs(family_loaded(name)), limits=limits)
    picture = held((40, 20))
    own, size = inputs.processor.image_processor, {"shortest_edge": bounds[0], "longest_edge": bounds[1]}
    wanted = own([inputs.store.open(picture)], return_tensors="pt", size=size)
    found = inputs.image(picture, alone=True)
    assert torch.equal(found.load(), wanted["pixel_values"])
    assert found.grid == tuple(wanted["image_grid_thw"][0].tolist())


@pytest.mark.parametrize("name", ["idefics3", "smolvlm", "internvl"])
def test_limits_leave_fewer_tiles_and_the_family_still_counts_them(name: str):
    free = tiny_inputs(family_loaded(name))
    few = replace(free, limits=PictureLimits(max_pixels=64))
    policy = tiny_policy(family_loaded(name))
    tokens = [inputs.image(held((64, 20)), alone=True) for inputs in (free, few)]
    assert tokens[1].num_tokens < tokens[0].num_tokens
    assert [len(feature) for feature in policy.vision.features(tokens).values()] == [t.num_tokens for t in tokens]


@pytest.mark.parametrize("name", ["llava-clip", "llava-siglip", "llava-onevision", "gemma3", "paligemma"])
def test_limits_are_refused_where_every_picture_gets_the_same_frames(name: str):
    with pytest.raises(ValueError, match="gives every picture the same frames, whatever its size; leave them out"):
        replace(tiny_inputs(family_loaded(name)), limits=PictureLimits(max_pixels=100))
