"""Losses on pairs of answers: the DPO family.

Inner losses take summed log-probabilities of answers and return one value per pair. Knows nothing of how the
reference's log-probabilities came about.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.batch import Batch, Outcome, Scores
from sightline.objectives.logprobs import answer_means, answer_totals
from sightline.objectives.objective import Objective
from sightline.registry import register


def dpo(
    chosen: Float[Tensor, " pair"],
    rejected: Float[Tensor, " pair"],
    ref_chosen: Float[Tensor, " pair"],
    ref_rejected: Float[Tensor, " pair"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pair"]:
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7), one value per pair.

    With `label_smoothing` e > 0 the labels are taken as flipped with probability e (conservative DPO): the
    optimum is then a margin of logit(1 - e) / beta instead of infinity.
    """
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


@register("objective", "dpo")
def dpo_objective(
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    nll_weight: float = 0.0,
    length_normalise: bool = False,
) -> Objective:
    """DPO over a batch's pairs, with an optional anchor: the negative log-likelihood of the chosen answers.

    `nll_weight` scales that likelihood term, a mean over all chosen tokens of the step (RPO's anchor). With
    `length_normalise` the log-ratios are means per token instead of sums (LN-DPO); beta is then on that scale.
    """

    def counts(batch: Batch) -> Mapping[str, float]:
        found = {"dpo": float(len(batch.pairs))}
        if nll_weight > 0:
            found["nll"] = float(batch.mask[batch.pairs[:, 0]].sum())
        return found

    def compute(scores: Scores, batch: Batch) -> Outcome:
        logprobs = scores.logprobs
        mask, reference = batch.mask.to(logprobs.device), batch.columns["ref_logprobs"].to(logprobs.device)
        reduce = answer_means if length_normalise else answer_totals
        policy_answers, reference_answers = reduce(logprobs, mask), reduce(reference, mask)
        chosen, rejected = batch.pairs.to(logprobs.device).unbind(1)
        losses = dpo(
            policy_answers[chosen],
            policy_answers[rejected],
            reference_answers[chosen],
            reference_answers[rejected],
            beta=beta,
            label_smoothing=label_smoothing,
        )
        terms = {"dpo": losses.sum()}
        if nll_weight > 0:
            terms["nll"] = -(logprobs[chosen] * mask[chosen]).sum()
        ratio = (policy_answers - reference_answers).detach()
        metrics = _pair_metrics(ratio, policy_answers.detach(), chosen, rejected, beta=beta)
        shifts = answer_means((logprobs - reference).detach(), mask)[chosen]
        metrics["policy/chosen_shift"] = (float(shifts.sum()), float(len(chosen)))
        return Outcome(terms=terms, metrics=metrics)

    weights = {"dpo": 1.0} | ({"nll": nll_weight} if nll_weight > 0 else {})
    return Objective(name="dpo", counts=counts, compute=compute, weights=weights, needs_reference=True)


def _pair_metrics(
    ratio: Tensor, answers: Tensor, chosen: Tensor, rejected: Tensor, *, beta: float
) -> dict[str, tuple[float, float]]:
    num_pairs = float(len(chosen))
    margin = beta * (ratio[chosen] - ratio[rejected])
    return {
        "reward/chosen": (float(beta * ratio[chosen].sum()), num_pairs),
        "reward/rejected": (float(beta * ratio[rejected].sum()), num_pairs),
        "reward/margin": (float(margin.sum()), num_pairs),
        "reward/accuracy": (float((margin > 0).sum()), num_pairs),
        "policy/chosen_logprob": (float(answers[chosen].sum()), num_pairs),
        "policy/rejected_logprob": (float(answers[rejected].sum()), num_pairs),
    }
