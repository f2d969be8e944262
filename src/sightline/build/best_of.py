"""Best of N: several sampled answers to each prompt, and the one that a scorer rates highest.

A scorer is a reward by name: a reward model's run, similarity, a judge, a rule. What cannot be rated comes last.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sightline.build.labels import scored
from sightline.config import ConfigError
from sightline.config.mistakes import first_mistake
from sightline.config.rl import RewardEntry
from sightline.journal import named, recipe_of
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.reading import reading_policy
from sightline.models.sampler import SamplingParams, sample
from sightline.progress import each, phase
from sightline.records import Completion, Group, Prompt
from sightline.registry import find
from sightline.rewards.contract import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """How many answers are sampled, and who chooses."""

    num: int
    """Answers to each prompt."""
    scorer: RewardEntry
    """Who rates them."""
    temperature: float = 1.0
    """Of sampling."""
    seed: int = 0
    """Decides the draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """An answer with what the scorer says of it."""

    text: str
    """The answer."""
    value: float | None
    """Its rating; None where the scorer has no opinion."""


def scorer_of(text: str) -> RewardEntry:
    """A scorer from a run's folder, a reward's name, or a reward as JSON: `{"name": "clip", "options": {...}}`."""
    if recipe_of(named(text)[0]) is not None:
        return RewardEntry(name="learned", options={"run": text})
    if Path(text).is_dir():
        raise ConfigError(f"--scorer: {text} holds no run; name a run folder of objective.kind ranking, or a reward")
    values: object = {"name": text}
    if text.lstrip().startswith("{"):
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"--scorer: this is no JSON ({error}); write a run folder, a name, or JSON") from error
    try:
        entry = RewardEntry.model_validate(values)
    except ValidationError as error:
        where, sentence = first_mistake(error, RewardEntry)
        raise ConfigError(f"--scorer: {'.'.join(where)}: {sentence}") from error
    find("reward", entry.name)
    return entry


def rated_answers(
    loaded: Loaded,
    inputs: Inputs,
    prompts: Sequence[Prompt],
    best_of: BestOf,
    *,
    max_tokens: int,
    batch_size: int = 32,
) -> list[list[Rated]]:
    """The different answers to each prompt, the highest rated first."""
    policy = reading_policy(loaded)
    params = SamplingParams(temperature=best_of.temperature, max_tokens=max_tokens, seed=best_of.seed)
    groups = []
    starts = range(0, len(prompts), batch_size)
    for start in each(starts, f"best of {best_of.num}, {batch_size} prompts at a time", len(starts)):
        part = prompts[start : start + batch_size]
        tokens = [inputs.prompt(prompt) for prompt in part]
        drawn = sample(policy, tokens, num=best_of.num, params=params, ends=inputs.ends)
        for prompt, answers in zip(part, drawn, strict=True):
            texts = dict.fromkeys(inputs.text(answer.token_ids) for answer in answers)
            groups.append(Group(prompt=prompt, completions=tuple(Completion(text=text) for text in texts)))
    with phase("rating answers"):
        said = scored(groups, best_of.scorer, {group.prompt.id: inputs for group in groups})
    return [_ranked(group, scores) for group, scores in zip(groups, said, strict=True)]


def _ranked(group: Group, scores: Sequence[Score | None]) -> list[Rated]:
    rated = [
        Rated(text=one.text, value=None if score is None else score.value)
        for one, score in zip(group.completions, scores, strict=True)
    ]
    return sorted(rated, key=lambda one: -math.inf if one.value is None else one.value, reverse=True)
