"""Attacks on rewards that models give (clip, learned, judge): descriptions of drawn scenes, scored by the model itself.

The attacks are those of `rewards.hostile_boxes.description`, cut where a run cuts answers; scenes come from the
embedded world's test split, so that a model of any kind sees what it is asked about. Knows no kind of model.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.build.loading import load_trained, make_inputs
from sightline.build.scorers import Scorer, open_scorers
from sightline.config.rl import RewardEntry
from sightline.records import Completion, Prompt
from sightline.rewards.findings import KindProbed, Probed
from sightline.rewards.hostile import Case
from sightline.rewards.hostile_boxes import description
from sightline.rewards.probes import probe_kind
from sightline.rewards.stages import Stage
from sightline.world.prompts import as_prompt
from sightline.world.scenes import COLOURS, SHAPES
from sightline.world.tasks import make_question

KIND = "describe"
MAX_CHARACTERS = 512
"""Attacks are cut here: longer than any description of a scene, within what every model reads in a moment."""
FEWEST = 2
"""Objects of a scene, so that one can be left out."""


def probe_model(name: str, *, options: Mapping[str, Any], truth: str | None, cases: int, seed: int) -> Probed:
    """Attack a reward that a model gives, on descriptions; `options` are the reward's and name the model."""
    if truth not in (None, KIND):
        raise ValueError(f"truth is {truth!r}; rewards of models are probed on descriptions, so leave it out")
    drawn = [_drawn(index) for index in _scenes(cases, seed)]
    reader = make_inputs(load_trained("world:base")[0])
    entry = RewardEntry(name=name, options=dict(options))
    with open_scorers([entry], {prompt.id: reader for _, prompt in drawn}) as scorers:
        judge = _Judge(scorers[name], {id(case): prompt for case, prompt in drawn})
        found = probe_kind(KIND, [case for case, _ in drawn], judge, [Stage(progress=0.0)], dresses=("bare",))
    kinds = (found,) if isinstance(found, KindProbed) else ()
    left_out = {KIND: found} if isinstance(found, str) else {}
    return Probed(
        reward=name, options=dict(options), beside=None, cases=cases, seed=seed, kinds=kinds, left_out=left_out
    )


class _Judge:
    """Scores answers by the model, each with the picture of its case; a case is known by being that object."""

    def __init__(self, scorer: Scorer, prompts: Mapping[int, Prompt]) -> None:
        self._scorer, self._prompts = scorer, prompts

    def __call__(self, answers: Sequence[tuple[Case, str]], stage: Stage) -> tuple[list[float | None], str | None]:
        """All scores at once, or what is wrong with one of them."""
        prompts = [self._prompts[id(case)] for case, _ in answers]
        given = [(Completion(text=text[:MAX_CHARACTERS], finish_reason="stop"),) for _, text in answers]
        try:
            said = self._scorer(prompts, given)
        except ValueError as error:
            return [], f"raised ValueError: {error}"
        return [None if score is None else score.value for [score] in said], None


def _scenes(cases: int, seed: int) -> list[int]:
    """Numbers of test scenes with objects enough."""
    found: list[int] = []
    index = seed * 10_000
    while len(found) < cases:
        if len(make_question(KIND, "test", index).truth["objects"]) >= FEWEST:
            found.append(index)
        index += 1
    return found


def _drawn(index: int) -> tuple[Case, Prompt]:
    question = make_question(KIND, "test", index)
    objects = question.truth["objects"]
    size = (question.truth["width"], question.truth["height"])
    shown = {"image_size": size, "seen_size": size, "shown": objects}
    vocabulary = {"colours": tuple(COLOURS), "shapes": SHAPES}
    labels = [item["label"] for item in objects]
    return description(random.Random(index), labels, vocabulary, **shown), as_prompt(question)
