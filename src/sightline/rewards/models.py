"""Rewards that other models give: a learned reward model, similarity, a judge. Named here, worked out elsewhere.

A model does not run in the processes that judge answers. Whoever runs the rewards asks it about all answers of a
rollout at once and puts what it said into the context (`RewardContext.given`), where the reward finds it under its
own label.
"""

from collections.abc import Sequence
from typing import Literal

from sightline.records import Completion
from sightline.registry import register
from sightline.rewards.contract import RewardContext, Score

MODEL_REWARDS = ("learned", "clip", "judge")
"""Rewards whose value a model has given beforehand."""


@register("reward", "learned")
def learned(completion: Completion, context: RewardContext, *, run: str, penalty: float = 1.0) -> Score | None:
    """A reward model's rating: the ensemble's mean less `penalty` times its spread, in spreads of its training answers.

    `run` is the folder of a finished run of objective.kind ranking. Parts: mean, spread, and its attributes.
    """
    raise ValueError(without_model("learned", f"the reward model {run}"))


@register("reward", "clip")
def clip(
    completion: Completion,
    context: RewardContext,
    *,
    model: str,
    measure: Literal["cosine", "clipscore", "probability"] = "cosine",
    centre: float = 0.0,
    spread: float = 1.0,
) -> Score | None:
    """How well the answer fits the picture by a CLIP or SigLIP model: (measured - `centre`) / `spread`.

    `model` is a folder, a hub id or `world:clip`. Cosines lie in a narrow band: its middle and width make the value
    weigh as much as other rewards. A long text is read in parts, whose mean counts, and a clause that denies something
    counts as less what it fits, since such models hardly hear a "no". Several pictures: the mean.
    """
    raise ValueError(without_model("clip", f"the model {model}"))


@register("reward", "judge")
def judge(
    completion: Completion, context: RewardContext, *, recipe: str, overrides: Sequence[str] = ()
) -> Score | None:
    """What a judge says of the answer: another model that is asked in words, by a recipe of `sightline judge`.

    `recipe` is a judge that ships or a file, `overrides` are its keys ("judge.model=NAME"); its protocol must score
    single answers (pointwise, critique, claims). Replies are kept in its cache; what could not be read has no value.
    """
    raise ValueError(without_model("judge", f"the judge {recipe}"))


def without_model(name: str, what: str) -> str:
    """Why such a reward cannot be had by itself, and what to do."""
    return f"{name} is given by {what}, which is not here; use it in a run, or attack it with sightline reward probe"
