"""Policy gradients: the one objective that GRPO, PPO and their kin are settings of.

`surrogates` holds the losses of single tokens, `reinforcement` the published algorithms by name. Knows nothing of
rewards: advantages, and what the sampling policy said, are columns of the batch.

| column | shape | read |
|---|---|---|
| advantages | [N] or [N, T] | always |
| behaviour_logprobs | [N, T] | always, save with clip "none" or `on_policy`: the trainer's, before the first update |
| weight | [N] | if there: an answer of weight 0 is in no total and in no count; others weigh by it |
| ref_logprobs | [N, T] | with `kl_weight`; if there, also for the log |
| kl_factor | [N] | with `kl_weight`, if there: what the KL is multiplied by, for a weight that is steered |
| rollout_logprobs | [N, T] | with `truncation`; if there, also for the log: what the sampler's own arithmetic said |
| returns, old_values | [N, T] | with `value_weight`; `old_values` only with `value_clip` |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.batch import Batch, Outcome, Scores
from sightline.objectives.kl import find_estimator, k1, k3
from sightline.objectives.objective import Objective
from sightline.objectives.surrogates import (
    AGGREGATIONS,
    RATIOS,
    Truncation,
    aggregation_weights,
    cispo,
    clipped_surrogate,
    dual_clipped_surrogate,
    plain_reinforce,
    top_entropy_tokens,
    two_sided_surrogate,
)
from sightline.objectives.values import value_loss, value_moments
from sightline.registry import did_you_mean

CLIPS = ("ppo", "dual", "two_sided", "cispo", "none")


def policy_gradient_objective(  # noqa: PLR0913 - one objective, all its dials; `reinforcement` has the named few
    *,
    kind: str = "grpo",
    clip: str = "ppo",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 3.0,
    delta: float = 4.0,
    ratio: str = "token",
    aggregation: str = "token",
    max_length: int | None = None,
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    entropy_weight: float = 0.0,
    value_weight: float = 0.0,
    value_clip: float | None = None,
    top_entropy: float | None = None,
    truncation: Truncation | None = None,
) -> Objective:
    """Policy gradient over the answers of a batch, with optional KL, entropy and value terms of the same aggregation.

    Args:
        kind: Name of the objective.
        clip: "ppo", "dual" (with `dual_clip`), "two_sided" (with `delta`), "cispo" (the ratio capped at
            1 + clip_high weighs log pi), or "none" (plain REINFORCE, no ratio).
        clip_low: A bad token (advantage below 0) gets no gradient once its ratio is below 1 - clip_low.
        clip_high: A good token gets none once its ratio is above 1 + clip_high.
        dual_clip: A bad token gets none once its ratio is above this.
        delta: The same for "two_sided".
        ratio: "token", "sequence" (GSPO), or "sequence_token" (GSPO-token).
        aggregation: "sequence", "token" or "constant", see `aggregation_weights`.
        max_length: Constant of "constant": the sampler's token limit.
        kl_weight: Weight of the KL to the reference in the loss; 0 needs no reference.
        kl_estimator: "k1" (in a loss: noise), "k2", "k3" or "k3+"; see `kl`.
        entropy_weight: Weight of the entropy, which is raised; below 0 it is lowered.
        value_weight: Weight of the critic's loss; 0 needs no critic.
        value_clip: How far a value may move from `old_values` within one rollout; None lets it.
        top_entropy: Share of each answer's tokens, those of highest entropy, whose policy loss counts.
        truncation: Multiplies the policy loss by behaviour / rollout probability, within bounds.
    """
    _check_choices(clip=clip, ratio=ratio, aggregation=aggregation)
    _check_numbers(clip_low=clip_low, clip_high=clip_high, kl_weight=kl_weight, value_weight=value_weight)
    _check_numbers(value_clip=value_clip, top_entropy=top_entropy, zero=False)
    _check_ceiling(clip, 1 + clip_high, dual=dual_clip, two_sided=delta)
    if aggregation == "constant" and (max_length is None or max_length < 1):
        raise ValueError(
            "aggregation 'constant' divides by max_length; set it to the sampler's token limit (dr_grpo has it)"
        )
    clipping = _Clipping(kind=clip, low=clip_low, high=clip_high, ceiling=delta if clip == "two_sided" else dual_clip)
    losses = {"policy": _policy_loss(clipping, ratio, top_entropy, truncation)}
    losses |= {"kl": _kl_loss(kl_estimator)} if kl_weight > 0 else {}
    losses |= {"entropy": _entropy} if entropy_weight != 0 else {}
    losses |= {"value": _value_loss(value_clip)} if value_weight > 0 else {}
    every = {"policy": 1.0, "kl": kl_weight, "entropy": -entropy_weight, "value": value_weight}
    wants = {"logprobs"}
    wants |= {"entropy"} if "entropy" in losses or top_entropy is not None else set()
    wants |= {"values"} if "value" in losses else set()

    def aggregate(batch: Batch) -> tuple[Tensor, float]:
        kept, weight = _kept(batch), _answer_weights(batch)
        return aggregation_weights(kept, weight, aggregation=aggregation, max_length=max_length)

    def counts(batch: Batch) -> Mapping[str, float]:
        return dict.fromkeys(losses, aggregate(batch)[1])

    def compute(scores: Scores, batch: Batch) -> Outcome:
        kept = _kept(batch).to(scores.logprobs.device)
        logprobs = torch.where(kept, scores.logprobs, 0.0)
        micro = _Micro(logprobs=logprobs, kept=kept, scores=scores, batch=batch, kind=kind)
        weights = aggregate(batch)[0].to(logprobs)
        terms = {name: (weights * loss(micro)).sum() for name, loss in losses.items()}
        metrics = _metrics(micro, clipping, ratio, truncation, with_values="value" in losses)
        return Outcome(terms=terms, metrics=metrics)

    return Objective(
        name=kind,
        counts=counts,
        compute=compute,
        weights={name: every[name] for name in losses},
        wants=frozenset(wants),
        needs_reference=kl_weight > 0,
    )


def on_policy(objective: Objective) -> Objective:
    """The objective on answers of the policy as it stands: every ratio is exactly 1, whatever the sampler's rounding.

    Right for one update per rollout. What the policy says now is taken as what it said when it sampled, so nothing has
    to be scored twice.
    """

    def compute(scores: Scores, batch: Batch) -> Outcome:
        # The policy that sampled is no way to change a ratio: its log-probs are taken as given.
        return objective.compute(scores, batch.with_columns(behaviour_logprobs=scores.logprobs.detach()))

    return replace(objective, compute=compute)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Micro:
    """A micro-batch with zeros wherever a token is not scored or its answer is left out."""

    logprobs: Tensor
    """[N, T] of the policy, with gradient."""
    kept: Tensor
    """[N, T] tokens that count."""
    scores: Scores
    """All that the policy said."""
    batch: Batch
    """The answers."""
    kind: str
    """Name of the objective, for errors."""

    def column(self, name: str) -> Tensor:
        """[N, T] of a column; one of [N] is repeated over tokens."""
        if name not in self.batch.columns:
            raise ValueError(f"objective {self.kind!r} reads column {name!r}, which the batch lacks; {_CURES[name]}")
        values = self.batch.columns[name].to(self.logprobs)
        return torch.where(self.kept, values[:, None] if values.dim() == 1 else values, 0.0)

    def wanted(self, name: str, values: Tensor | None) -> Tensor:
        """[N, T] of what the policy was asked for."""
        if values is None:
            raise ValueError(f"objective {self.kind!r} wants {name}, which the policy did not give; {_CURES[name]}")
        return torch.where(self.kept, values, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clipping:
    """A clip rule with its bounds."""

    kind: str
    """One of CLIPS."""
    low: float
    """Below 1."""
    high: float
    """Above 1."""
    ceiling: float
    """On the ratio of bad tokens, for "dual" and "two_sided"."""

    def loss(self, logprobs: Tensor, ratio: Tensor, advantage: Tensor) -> Tensor:
        """One value per token."""
        low, high, ceiling = self.low, self.high, self.ceiling
        match self.kind:
            case "dual":
                return dual_clipped_surrogate(ratio, advantage, low=low, high=high, ceiling=ceiling)
            case "two_sided":
                return two_sided_surrogate(ratio, advantage, low=low, high=high, delta=ceiling)
            case "cispo":
                return cispo(logprobs, ratio, advantage, high=high)
        return clipped_surrogate(ratio, advantage, low=low, high=high)

    def at_bounds(self, ratio: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens that the lower and the upper bounds hold; for "cispo", whose weights are capped."""
        if self.kind == "cispo":
            return torch.zeros_like(ratio, dtype=torch.bool), ratio > 1 + self.high
        above = (ratio > 1 + self.high) & (advantage > 0)
        if self.kind in ("dual", "two_sided"):
            above |= (ratio > self.ceiling) & (advantage < 0)
        return (ratio < 1 - self.low) & (advantage < 0), above


_Loss = Callable[[_Micro], Tensor]
_CURES = {
    "advantages": "make them from rewards with sightline.objectives.advantages",
    "behaviour_logprobs": "score the answers before the first update, or wrap the objective with on_policy where a "
    "rollout has a single one",
    "rollout_logprobs": "keep the sampler's own log-probs under that name, or drop truncation",
    "ref_logprobs": "choose a reference, or set kl_weight to 0",
    "returns": "make them with sightline.objectives.values.gae",
    "old_values": "keep the critic's values at the rollout, or drop value_clip",
    "entropy": "score with want including 'entropy'",
    "values": "give the policy a critic, or set value_weight to 0",
}


def _kept(batch: Batch) -> Tensor:
    return batch.mask & (_answer_weights(batch) > 0)[:, None]


def _answer_weights(batch: Batch) -> Tensor:
    weight = batch.columns.get("weight")
    return torch.ones(batch.num_answers) if weight is None else weight.float()


def _policy_loss(clipping: _Clipping, level: str, top_entropy: float | None, truncation: Truncation | None) -> _Loss:
    def loss(micro: _Micro) -> Tensor:
        advantage = micro.column("advantages")
        if clipping.kind == "none":
            losses = plain_reinforce(micro.logprobs, advantage)
        else:
            if level == "sequence" and micro.batch.columns["advantages"].dim() == 2:
                raise ValueError(
                    "ratio 'sequence' takes one advantage per answer; use 'sequence_token' for one per token"
                )
            ratio = RATIOS[level](micro.logprobs, micro.column("behaviour_logprobs"), micro.kept)
            losses = clipping.loss(micro.logprobs, ratio, advantage)
        if truncation is not None:
            said = micro.column("behaviour_logprobs"), micro.column("rollout_logprobs")
            losses = losses * truncation.weights(*said, micro.kept)
        if top_entropy is not None:
            entropy = micro.wanted("entropy", micro.scores.entropy)
            losses = losses * top_entropy_tokens(entropy, micro.kept, share=top_entropy)
        return losses

    return loss


def _kl_loss(name: str) -> _Loss:
    estimate = find_estimator(name)

    def loss(micro: _Micro) -> Tensor:
        found = estimate(micro.logprobs, micro.column("ref_logprobs"))
        return found * micro.column("kl_factor") if "kl_factor" in micro.batch.columns else found

    return loss


def _entropy(micro: _Micro) -> Tensor:
    return micro.wanted("entropy", micro.scores.entropy)


def _value_loss(clip: float | None) -> _Loss:
    def loss(micro: _Micro) -> Tensor:
        values = micro.wanted("values", micro.scores.values)
        old = None if clip is None else micro.column("old_values")
        return value_loss(values, micro.column("returns"), old_values=old, clip=clip)

    return loss


@torch.no_grad()
def _metrics(
    micro: _Micro, clipping: _Clipping, level: str, truncation: Truncation | None, *, with_values: bool
) -> dict[str, tuple[float, float]]:
    """Totals over the tokens that count, and their number."""
    columns, kept = micro.batch.columns, micro.kept
    found: dict[str, Tensor] = {}
    behaviour = micro.column("behaviour_logprobs") if "behaviour_logprobs" in columns else None
    if behaviour is not None:
        ratio = RATIOS[level](micro.logprobs, behaviour, kept)
        found["policy/ratio"] = ratio
        found["policy/kl_behaviour"] = k3(behaviour, micro.logprobs)
        found["policy/kl_behaviour_k1"] = k1(behaviour, micro.logprobs)
        if clipping.kind != "none":
            below, above = clipping.at_bounds(ratio, micro.column("advantages"))
            found |= {"policy/clip_share_low": below, "policy/clip_share_high": above}
    if behaviour is not None and "rollout_logprobs" in columns:
        sampler = micro.column("rollout_logprobs")
        found["sampler/difference"] = k1(behaviour, sampler).abs()
        found["sampler/kl"] = k3(sampler, behaviour)
        if truncation is not None:
            found["sampler/truncated"] = truncation.bounds(behaviour, sampler, kept)
    if "ref_logprobs" in columns:
        found["kl/reference"] = k3(micro.logprobs, micro.column("ref_logprobs"))
    if micro.scores.entropy is not None:
        found["policy/entropy"] = micro.scores.entropy
    totals = torch.stack([torch.where(kept, v, 0).double().sum() for v in (kept, *found.values())]).tolist()
    named = dict(zip(found, totals[1:], strict=True))
    if with_values:
        values = micro.wanted("values", micro.scores.values)
        named |= value_moments(values, micro.column("returns"), kept)
    return {name: (total, totals[0]) for name, total in named.items()}


def _check_choices(*, clip: str, ratio: str, aggregation: str) -> None:
    known = {"clip": (clip, CLIPS), "ratio": (ratio, tuple(RATIOS)), "aggregation": (aggregation, AGGREGATIONS)}
    for option, (value, names) in known.items():
        if value not in names:
            raise ValueError(f"{option} {value!r} is unknown{did_you_mean(value, names)}")


def _check_numbers(*, zero: bool = True, **options: float | None) -> None:
    for option, value in options.items():
        if value is not None and not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
            raise ValueError(f"{option} is {value}; give a finite number {'of 0 or more' if zero else 'above 0'}")


def _check_ceiling(clip: str, bound: float, *, dual: float, two_sided: float) -> None:
    option, ceiling = {"dual": ("dual_clip", dual), "two_sided": ("delta", two_sided)}.get(clip, ("", math.inf))
    if not ceiling > bound:
        raise ValueError(f"{option} is {ceiling}, within the ordinary clip; set it above 1 + clip_high = {bound}")
