"""Rewards for runs of the tiny model, whose answers are random bytes: they vary from answer to answer."""

from sightline.records import Completion
from sightline.rewards.contract import RewardContext, Score


def small_tokens(completion: Completion, context: RewardContext, *, below: int = 200) -> Score:
    """Share of tokens with a small number; the part "share" is the same."""
    ids = completion.token_ids or ()
    share = sum(token < below for token in ids) / max(1, len(ids))
    return Score(value=share, parts={"share": share})
