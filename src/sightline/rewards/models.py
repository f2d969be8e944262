"""Rewards that other models give: a learned reward model. Named here, worked out elsewhere.

A model does not run in the processes that judge answers. Whoever runs the rewards asks it about all answers of a
rollout at once and puts what it said into the context (`RewardContext.given`), where the reward finds it under its
own label.
"""

from sightline.records import Completion
from sightline.registry import register
from sightline.rewards.contract import RewardContext, Score

MODEL_REWARDS = ("learned",)
"""Rewards whose value a model has given beforehand."""


@register("reward", "learned")
def learned(completion: Completion, context: RewardContext, *, run: str, penalty: float = 1.0) -> Score | None:
    """A reward model's rating: the ensemble's mean less `penalty` times its spread, in spreads of its training answers.

    `run` is the folder of a finished run of objective.kind ranking. Parts: mean, spread, and its attributes.
    """
    raise ValueError(without_model("learned", f"the reward model {run}"))


def without_model(name: str, what: str) -> str:
    """Why such a reward cannot be had by itself, and what to do."""
    return f"{name} is given by {what}, which is not here; use it in a run, or annotate groups with sightline judge"
