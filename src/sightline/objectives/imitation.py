"""Supervised fine-tuning: raise the log-probability of given answers."""

from collections.abc import Mapping

from torch import Tensor

from sightline.batch import Batch, Outcome, Scores
from sightline.objectives.logprobs import answer_means
from sightline.objectives.objective import Objective
from sightline.registry import register


@register("objective", "sft")
def sft_objective(*, normalise: str = "token") -> Objective:
    """Negative log-likelihood of the answers marked in `columns["imitate"]`, or of all when it is absent.

    `normalise="token"` divides the step's total by its scored tokens; "answer" takes the mean of each answer's
    tokens first, so that short answers weigh as much as long ones.
    """
    if normalise not in ("token", "answer"):
        raise ValueError(f"sft normalises by 'token' or 'answer', not by {normalise!r}")
    per_token = normalise == "token"

    def counts(batch: Batch) -> Mapping[str, float]:
        chosen = _imitated(batch)
        return {"sft": float(batch.mask[chosen].sum() if per_token else chosen.sum())}

    def compute(scores: Scores, batch: Batch) -> Outcome:
        chosen = _imitated(batch)
        logprobs, mask = scores.logprobs[chosen], batch.mask[chosen].to(scores.logprobs.device)
        total = -(logprobs * mask).sum() if per_token else -answer_means(logprobs, mask).sum()
        tokens = float(mask.sum())
        metrics = {"policy/token_logprob": (float((logprobs.detach() * mask).sum()), tokens)}
        return Outcome(terms={"sft": total}, metrics=metrics)

    return Objective(name="sft", counts=counts, compute=compute, weights={"sft": 1.0})


def _imitated(batch: Batch) -> Tensor:
    marked = batch.columns.get("imitate")
    return batch.lengths > 0 if marked is None else marked.bool()
