"""A tiny model learns something trivial that needs the picture: which of two colours it shows."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as Pillow

from sightline.batch import Batch
from sightline.data.stream import Stream
from sightline.models.inputs import Inputs
from sightline.models.reference import frozen_copy
from sightline.models.sampler import SamplingParams, sample
from sightline.objectives.imitation import sft_objective
from sightline.objectives.preference import dpo_objective
from sightline.records import Completion, Group, Image, Message, Pair, Prompt
from sightline.train.feeds import GroupFeed, group_batch
from tests.tiny import SHAPE, tiny_inputs, tiny_trained
from tests.train.engines import tiny_engine

COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}
NUM_STEPS = 40


def coloured_groups(num: int, *, seed: int) -> list[Group]:
    """Noisy pictures of one colour; the answer that names it is preferred to the one that names the other."""
    rng = np.random.default_rng(seed)
    groups = []
    for i in range(num):
        shown, other = ("red", "blue") if i % 2 else ("blue", "red")
        noise = rng.integers(-30, 30, (SHAPE.image_size, SHAPE.image_size, 3))
        held = io.BytesIO()
        Pillow.fromarray(np.clip(COLOURS[shown] + noise, 0, 255).astype(np.uint8)).save(held, "PNG")
        message = Message(role="user", content=(Image(data=held.getvalue()), "What is in the picture?"))
        answers = (Completion(text=other), Completion(text=shown))
        prompt = Prompt(id=f"{seed}-{i}", messages=(message,))
        groups.append(Group(prompt=prompt, completions=answers, signals=(Pair(chosen=1, rejected=0),)))
    return groups


def reader(inputs: Inputs, objective: str) -> Callable[[list[Group]], Batch]:
    return lambda groups: group_batch(groups, objective=objective, prompt=inputs.prompt, answer=inputs.answer)


@pytest.mark.parametrize("train", ["full", "lora"])
def test_dpo_learns_to_prefer_the_colour_that_is_shown(train: str):
    loaded = tiny_trained(train)
    engine = tiny_engine(loaded, objective=dpo_objective(), learning_rate=1e-2, max_grad_norm=1.0)
    reference = frozen_copy(engine.policy, loaded)
    read = reader(tiny_inputs(loaded), "dpo")
    stream = Stream(24, seed=0, batch_size=8, epochs=None)
    feed = GroupFeed(coloured_groups(24, seed=0), stream, lambda rows: read(list(rows)), reference)
    fresh = read(coloured_groups(20, seed=1))
    fresh = fresh.with_columns(ref_logprobs=reference(fresh))
    assert engine.measure([fresh])["loss/dpo"] == pytest.approx(np.log(2), abs=1e-5)
    for _ in range(NUM_STEPS):
        engine.update(next(feed))
    after = engine.measure([fresh])
    assert after["reward/accuracy"] == 1
    assert after["loss/dpo"] < 0.2


@pytest.mark.parametrize("train", ["full", "lora"])
def test_sft_learns_to_say_the_colour_that_is_shown(train: str):
    loaded = tiny_trained(train)
    engine = tiny_engine(loaded, objective=sft_objective(), learning_rate=1e-2, max_grad_norm=1.0)
    inputs = tiny_inputs(loaded)
    read = reader(inputs, "sft")
    stream = Stream(24, seed=0, batch_size=8, epochs=None)
    feed = GroupFeed(coloured_groups(24, seed=0), stream, lambda rows: read(list(rows)), None)
    for _ in range(NUM_STEPS):
        engine.update(next(feed))
    fresh = coloured_groups(20, seed=1)
    prompts = [inputs.prompt(group.prompt) for group in fresh]
    params = SamplingParams(temperature=0, max_tokens=4)
    found = sample(engine.policy, prompts, num=1, params=params, ends=inputs.ends)
    assert [inputs.text(group[0].token_ids) for group in found] == [group.completions[1].text for group in fresh]
