"""Losses that make a rating head rank answers as people, judges or rules did: Bradley-Terry and what goes with it.

Inner losses take ratings and return one value per comparison. A batch's comparisons are its pairs, with these columns:

| pair column | meaning |
|---|---|
| margin | how much better the chosen one is, on its source's scale |
| tie | 1 where the source saw no difference |
| aspect | 0 compares overall, k the k-th attribute |

Left out: losses on whole rankings (Plackett-Luce); a ranking is all its pairs here.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.batch import Batch, Outcome, Scores
from sightline.objectives.objective import Objective
from sightline.registry import register

OVERALL = "overall"


def bradley_terry(
    chosen: Float[Tensor, " pair"],
    rejected: Float[Tensor, " pair"],
    *,
    margin: Float[Tensor, " pair"] | None = None,
    tie: Bool[Tensor, " pair"] | None = None,
) -> Float[Tensor, " pair"]:
    """-log sigmoid(chosen - rejected - margin), one value per comparison (Llama 2, eq. 2).

    A tie is a comparison that either side wins half of the time: the mean of both outcomes, without a margin, and least
    where the two are rated alike.
    """
    difference = chosen - rejected
    decided = -logsigmoid(difference if margin is None else difference - margin)
    if tie is None:
        return decided
    undecided = -0.5 * (logsigmoid(difference) + logsigmoid(-difference))
    return torch.where(tie, undecided, decided)


def centring(chosen: Float[Tensor, " pair"], rejected: Float[Tensor, " pair"]) -> Float[Tensor, " pair"]:
    """(chosen + rejected)^2: keeps ratings around zero, which comparisons alone leave open (Eisenstein et al. 2023)."""
    return (chosen + rejected).square()


def correlation(first: Float[Tensor, " answer"], second: Float[Tensor, " answer"]) -> Float[Tensor, ""]:
    """Pearson's correlation; 0 where either does not vary."""
    a, b = first - first.mean(), second - second.mean()
    spread = a.norm() * b.norm()
    return torch.where(spread > 1e-12, (a * b).sum() / spread.clamp(min=1e-12), 0.0)


@register("objective", "ranking")
def ranking_objective(
    *,
    attributes: Sequence[str] = (),
    margin_weight: float = 0.0,
    centring_weight: float = 0.01,
    length_weight: float = 0.0,
) -> Objective:
    """Bradley-Terry over a batch's comparisons, on the ratings of whole answers.

    Args:
        attributes: Names of the attributes that the head rates beside the overall rating, in its order.
        margin_weight: Times a comparison's margin, the distance that its two ratings should keep.
        centring_weight: Weight of `centring`.
        length_weight: Above 0 the head has a part for length alone (ODIN, Chen et al. 2024, eq. 5): comparisons see
            the sum of overall and length rating, whose correlations with the answers' lengths over the whole step are
            driven to 0 and to 1. The step is then one piece: the objective is coupled.
    """
    names = [OVERALL, *attributes]

    def counts(batch: Batch) -> Mapping[str, float]:
        num_pairs = float(len(batch.pairs))
        found = {"ranking": num_pairs} | ({"centring": num_pairs} if centring_weight > 0 else {})
        return found | ({"length": 1.0} if length_weight > 0 else {})

    def compute(scores: Scores, batch: Batch) -> Outcome:
        assert scores.ratings is not None, "ranking wants ratings: give the policy a rating head"
        ratings = scores.ratings
        shown = ratings
        if length_weight > 0:  # the last column is the length head's; overall comparisons see the sum
            shown = torch.cat([ratings[:, :1] + ratings[:, -1:], ratings[:, 1:]], 1)
        chosen, rejected, aspect = _sides(shown, batch)
        margin = margin_weight * batch.pair_columns["margin"].to(ratings)
        tie = batch.pair_columns["tie"].to(ratings.device) > 0
        terms = {"ranking": bradley_terry(chosen, rejected, margin=margin, tie=tie).sum()}
        if centring_weight > 0:
            terms["centring"] = centring(chosen, rejected).sum()
        if length_weight > 0:
            lengths = batch.lengths.to(ratings)
            own = correlation(ratings[:, 0], lengths).abs()
            terms["length"] = own + 1 - correlation(ratings[:, -1], lengths)
        return Outcome(terms=terms, metrics=_metrics(chosen.detach() - rejected.detach(), tie, aspect, names))

    weights = {"ranking": 1.0, "centring": centring_weight, "length": length_weight}
    return Objective(
        name="ranking",
        counts=counts,
        compute=compute,
        weights={name: weight for name, weight in weights.items() if weight > 0},
        wants=frozenset({"ratings"}),
        coupled=length_weight > 0,
    )


def _sides(ratings: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Ratings of chosen and rejected in the aspect of each comparison, and that aspect."""
    better, worse = batch.pairs.to(ratings.device).unbind(1)
    aspect = batch.pair_columns["aspect"].long().to(ratings.device)
    return ratings[better, aspect], ratings[worse, aspect], aspect


def _metrics(difference: Tensor, tie: Tensor, aspect: Tensor, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Share of decided comparisons ranked right, overall and by aspect, and the mean difference."""
    decided = ~tie
    right = (difference > 0) & decided
    found = {
        "rating/accuracy": (float(right.sum()), float(decided.sum())),
        "rating/margin": (float(difference[decided].sum()), float(decided.sum())),
    }
    for number, name in enumerate(names) if len(names) > 1 else ():
        here = decided & (aspect == number)
        if bool(here.any()):
            found[f"rating/accuracy_{name}"] = (float((right & here).sum()), float(here.sum()))
    return found
