"""A reward model at work: an ensemble of rating heads on one backbone, fitted to its states, calibrated, and asked.

The backbone is trained with one head (objectives/ranking). Then every member is fitted to the states of all answers,
kept once: its own first weights, its own bootstrap of the prompts, its own order. Members agree where the comparisons
say much and differ where they say little, so a rating is their mean less `penalty` times their spread (after the
uncertainty-weighted ensembles of Coste et al. 2023). Knows neither where comparisons come from nor what a rating is
for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch, split
from sightline.models.forward import Policy
from sightline.models.heads import RatingHead
from sightline.objectives.ranking import bradley_terry, centring, correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """States of answers and the comparisons between them.

    Example: two answers to one prompt, the first better: `pairs` [[0, 1]], `group` [0, 0].
    """

    states: Tensor
    """[N, 3, width] what was gathered of each answer (`Policy.gathered`)."""
    evidence: Tensor
    """[N, EVIDENCE] its log-probabilities under the backbone, and how it agrees with what that says itself."""
    lengths: Tensor
    """[N] tokens of each answer."""
    group: Tensor
    """[N] which prompt an answer belongs to."""
    pairs: Tensor
    """[M, 2] (better, worse) answers."""
    margin: Tensor
    """[M] how much better."""
    tie: Tensor
    """[M] whether the source saw no difference."""
    aspect: Tensor
    """[M] 0 compares overall, k the k-th attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How members are fitted."""

    members: int = 4
    """Heads of the ensemble."""
    hidden: int = 64
    """Units between states and ratings."""
    epochs: int = 10
    """Passes of each member over its bootstrap."""
    learning_rate: float = 1e-3
    """Of AdamW, falling to zero."""
    batch_size: int = 256
    """Comparisons in a step."""
    weight_decay: float = 0.01
    """Decoupled."""
    num_attributes: int = 0
    """Attributes beside the overall rating."""
    with_likelihood: bool = False
    """Whether members read the log-probabilities too."""
    with_agreement: bool = False
    """Whether members read the agreement with the backbone's own answers too."""
    margin_weight: float = 0.0
    """As in `ranking_objective`."""
    centring_weight: float = 0.01
    """As in `ranking_objective`."""
    length_weight: float = 0.0
    """As in `ranking_objective`, over the answers of a step."""
    seed: int = 0
    """Decides every member's weights, bootstrap and order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What the ensemble says of one answer, in spreads of the ratings of the training answers."""

    mean: float
    """Over members."""
    spread: float
    """Standard deviation over members: how little they know."""
    attributes: tuple[float, ...] = ()
    """Means over members, by attribute."""

    def less(self, penalty: float) -> float:
        """The mean less `penalty` spreads."""
        return self.mean - penalty * self.spread


@dataclass(slots=True, kw_only=True)
class Rater:
    """Rates answers. State: backbone and members."""

    policy: Policy
    """The backbone."""
    members: list[RatingHead]
    """The ensemble."""
    units: Tensor
    """[members, 2, H] mean and spread of each member's ratings of the training answers."""
    ends: tuple[int, ...]
    """Tokens at which an answer ends; the first is put behind one that was cut, so that all of it is read."""
    token_budget: int = 16384
    """Most packed tokens that are read at once."""

    @torch.no_grad()
    def rate(self, prompts: Sequence[PromptTokens], answers: Sequence[Sequence[Sequence[int]]]) -> list[list[Rating]]:
        """Ratings of each prompt's answers, given by their tokens."""
        whole = [[self._ended(tuple(ids)) for ids in group] for group in answers]
        if not any(whole):
            return [[] for _ in whole]
        said = self.members_say(*gather(self.policy, make_batch(prompts, whole), token_budget=self.token_budget))
        mean, spread = said.mean(0), said[..., 0].std(0, correction=0)
        last = 1 + self.members[0].num_attributes
        flat = [
            Rating(mean=float(row[0]), spread=float(s), attributes=tuple(row[1:last].tolist()))
            for row, s in zip(mean, spread, strict=True)
        ]
        found: list[list[Rating]] = []
        for group in whole:
            found.append(flat[: len(group)])
            flat = flat[len(group) :]
        return found

    @torch.no_grad()
    def members_say(self, states: Tensor, evidence: Tensor) -> Tensor:
        """[members, N, H] ratings of all members in their units."""
        said = torch.stack([member(states, evidence) for member in self.members])
        return (said - self.units[:, None, 0]) / self.units[:, None, 1]

    def _ended(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids if ids and ids[-1] in self.ends else (*ids, *self.ends[:1])


@torch.no_grad()
def gather(policy: Policy, batch: Batch, *, token_budget: int) -> tuple[Tensor, Tensor]:
    """States [N, 3, width] and evidence [N, EVIDENCE] of a batch's answers, read in portions."""
    found = [policy.gathered(part) for part in split(batch, token_budget=token_budget)]
    return torch.cat([states for states, _ in found]), torch.cat([evidence for _, evidence in found])


def fit_members(compared: Compared, fit: Fit, *, say: Callable[[str], None] = lambda line: None) -> list[RatingHead]:
    """The ensemble, each member on its own bootstrap of the prompts and in its own order."""
    found = []
    for number in range(fit.members):
        found.append(_fitted(compared, fit, np.random.default_rng([fit.seed, number])))
        say(f"member {number + 1} of {fit.members} is fitted")
    return found


def units_of(members: Sequence[RatingHead], compared: Compared) -> Tensor:
    """[members, 2, H] mean and spread of each member's ratings."""
    with torch.no_grad():
        said = torch.stack([member(compared.states, compared.evidence) for member in members])
    return torch.stack([said.mean(1), said.std(1).clamp(min=1e-6)], 1)


def _fitted(compared: Compared, fit: Fit, rng: np.random.Generator) -> RatingHead:
    width = compared.states.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        head = RatingHead(
            width,
            num_attributes=fit.num_attributes,
            with_length=fit.length_weight > 0,
            with_likelihood=fit.with_likelihood,
            with_agreement=fit.with_agreement,
            hidden=fit.hidden,
        )
    head.centre.copy_(compared.states.mean(0))
    head.scale.copy_(compared.states.std(0).clamp(min=1e-6))
    head.evidence_centre.copy_(compared.evidence.mean(0))
    head.evidence_scale.copy_(compared.evidence.std(0).clamp(min=1e-6))
    drawn = _bootstrap(compared, rng)
    optimiser = torch.optim.AdamW(head.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay)
    num_steps = fit.epochs * max(1, -(-len(drawn) // fit.batch_size))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / num_steps)
    for _ in range(fit.epochs):
        order = rng.permutation(len(drawn))
        for start in range(0, len(drawn), fit.batch_size):
            loss = _loss(head, compared, drawn[order[start : start + fit.batch_size]], fit)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head


def _bootstrap(compared: Compared, rng: np.random.Generator) -> NDArray[np.int64]:
    """Comparisons of prompts drawn with replacement: the comparisons of one prompt are no independent draws."""
    prompt = compared.group[compared.pairs[:, 0]].numpy()
    known, of_prompt = np.unique(prompt, return_inverse=True)
    times = np.bincount(rng.integers(0, len(known), len(known)), minlength=len(known))
    return np.repeat(np.arange(len(prompt)), times[of_prompt])


def _loss(head: RatingHead, compared: Compared, chosen: NDArray[np.int64], fit: Fit) -> Tensor:
    rows = torch.from_numpy(chosen)
    pairs, aspect = compared.pairs[rows], compared.aspect[rows]
    answers = pairs.flatten()
    ratings = head(compared.states[answers], compared.evidence[answers])
    shown = ratings
    if fit.length_weight > 0:
        shown = torch.cat([ratings[:, :1] + ratings[:, -1:], ratings[:, 1:]], 1)
    better, worse = (shown.view(len(rows), 2, -1)[:, side].gather(1, aspect[:, None]).squeeze(1) for side in (0, 1))
    losses = bradley_terry(better, worse, margin=fit.margin_weight * compared.margin[rows], tie=compared.tie[rows])
    loss = losses.mean() + fit.centring_weight * centring(better, worse).mean()
    if fit.length_weight > 0:
        lengths = compared.lengths[answers].float()
        own, length = correlation(ratings[:, 0], lengths).abs(), correlation(ratings[:, -1], lengths)
        loss = loss + fit.length_weight * (own + 1 - length)
    return loss
