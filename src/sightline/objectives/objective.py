"""What an objective is: what it wants from the policy, its counts from the batch alone, and its totals.

A loss cannot return a mean: it returns totals per micro-batch, and the engine divides by counts that were summed
over the whole step and all processes before the first backward pass. So any split of a step gives one gradient.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sightline.batch import Batch, Outcome, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective with its options bound.

    Example: `dpo_objective(beta=0.1)` wants log-probs, needs the reference, counts {"dpo": number of pairs}.
    """

    name: str
    """Registered name."""
    counts: Callable[[Batch], Mapping[str, float]]
    """What each term's total is divided by, from the batch alone."""
    compute: Callable[[Scores, Batch], Outcome]
    """Totals of each term and of the metrics over a micro-batch."""
    weights: Mapping[str, float]
    """Weight of each term in the loss."""
    wants: frozenset[str] = frozenset({"logprobs"})
    """What the policy is asked for."""
    needs_reference: bool = False
    """Whether `columns["ref_logprobs"]` must be there."""
    coupled: bool = False
    """Whether the loss sees all answers of a step at once (a correlation, say); `compute` then gets the whole step."""
