"""Rewards with faults that the doctor must find."""

from sightline.records import Completion
from sightline.rewards.contract import RewardContext


def always_one(completion: Completion, context: RewardContext) -> float:
    """The same for every answer."""
    return 1.0


def buggy(completion: Completion, context: RewardContext) -> float:
    """Reads a key that no truth has."""
    return context.truth["objcts"]
