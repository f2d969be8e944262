"""From what the rewards said to columns that an objective reads: advantages, returns, old values, the reference.

Everything is worked out once per rollout, over all its answers, before it is cut into updates: a whitening or a
baseline of the batch then does not depend on how many updates follow. The formulas are those of objectives/.

The critic works in units of the first rollout: its values are of (reward - mean) / spread there, so that a head which
starts at zero starts at the mean, whatever the scale of the rewards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.batch import Batch, read_in_portions
from sightline.objectives.advantages import (
    Rewarded,
    advantage,
    gdpo,
    moving_baseline,
    place_rewards,
    token_returns,
    token_rewards,
    whiten,
)
from sightline.objectives.kl import adapted_kl_weight, k3
from sightline.objectives.values import gae
from sightline.rewards.contract import Judged
from sightline.train.distributed import gathered_rows, own_share

Reader = Callable[[Batch], Tensor]


@dataclass(slots=True, kw_only=True)
class Credit:
    """Gives the answers of a rollout, those of all processes, their advantages. State: the moving baseline, rollouts
    so far."""

    rule: str
    """A name of objectives/advantages.py, or "gae" for the critic's, whose values are the column "old_values"."""
    token_budget: int
    """Most packed tokens that the reference reads at once."""
    reference: Reader | None = None
    """[N, T] log-probs of the reference, where the objective or the reward compares with it."""
    kl_in_reward: float = 0.0
    """Weight of the log-ratio to the reference that is taken off the reward of each token."""
    discount: float = 1.0
    """Of rewards that lie further ahead."""
    gae_lambda: float = 1.0
    """Between trusting the critic and the reward alone."""
    text_ends: Callable[[Sequence[int]], Sequence[int]] | None = None
    """Characters of an answer's text after each of its tokens; for rewards that are placed before the end."""
    kl_target: float | None = None
    """KL to the reference per token that the weight of the KL is steered to; None leaves the weight."""
    kl_horizon: float = 10_000.0
    """Answers over which the weight follows the target."""
    apart: tuple[tuple[str, float], ...] = ()
    """Names and weights of rewards that are normalised one by one and then summed; empty: their sum is used."""
    warmup: int = 0
    """First rollouts from which the critic alone learns."""
    baseline: float | None = None
    """Moving mean of rewards so far, for "reinforce"."""
    num_rollouts: int = 0
    """Rollouts so far."""
    kl_factor: float = 1.0
    """What the KL's weight is multiplied by for now."""
    units: tuple[float, float] | None = None
    """Mean and spread of the first rollout's rewards, in which the critic counts."""

    def __call__(self, batch: Batch, judged: Sequence[Judged], scorable: Tensor) -> Batch:
        """The batch with its columns."""
        self.num_rollouts += 1
        rewards = torch.as_tensor([0.0 if one.value is None else one.value for one in judged], dtype=torch.float32)
        if self.reference is not None:
            batch = batch.with_columns(
                ref_logprobs=read_together(self.reference, batch, token_budget=self.token_budget)
            )
        mask = batch.mask & scorable[:, None]
        kl_weight = self.kl_in_reward * self.kl_factor
        kl = torch.zeros(batch.tokens.shape)
        if self.kl_in_reward > 0:
            kl = (batch.columns["behaviour_logprobs"] - batch.columns["ref_logprobs"]) * mask
        if self.kl_target is not None:
            batch = batch.with_columns(kl_factor=torch.full((batch.num_answers,), self.kl_factor))
            self._steer(batch, mask, self.kl_target)
        if self.rule not in ("gae", "reinforce_pp"):
            rewards = rewards - kl_weight * kl.sum(1)
            return batch.with_columns(advantages=self._compared(batch, rewards, judged, scorable))
        each = self._laid_on_tokens(batch, judged, rewards, mask) - kl_weight * kl
        if self.rule == "gae":
            return self._with_critic(batch, each, rewards[scorable], mask)
        return batch.with_columns(advantages=whiten(token_returns(each, mask, discount=self.discount), mask))

    def facts(self) -> dict[str, float]:
        """What is worth logging of how credit was given."""
        return {} if self.kl_target is None else {"kl/weight_factor": self.kl_factor}

    def state(self) -> dict[str, Any]:
        """What is kept between rollouts, as plain JSON."""
        units = None if self.units is None else list(self.units)
        return {
            "baseline": self.baseline,
            "num_rollouts": self.num_rollouts,
            "kl_factor": self.kl_factor,
            "units": units,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.baseline, self.num_rollouts = state["baseline"], state["num_rollouts"]
        self.kl_factor = state["kl_factor"]
        self.units = None if state["units"] is None else (state["units"][0], state["units"][1])

    def _compared(self, batch: Batch, rewards: Tensor, judged: Sequence[Judged], scorable: Tensor) -> Tensor:
        if self.apart:
            parts = torch.as_tensor([[one.parts.get(name, 0.0) for name, _ in self.apart] for one in judged])
            return gdpo(parts.float(), batch.group, weights=[weight for _, weight in self.apart], scorable=scorable)
        given = Rewarded(
            rewards=rewards, group=batch.group, scorable=scorable, lengths=batch.lengths, baseline=self.baseline
        )
        found = advantage(self.rule)(given)
        if self.rule == "reinforce":
            self.baseline = moving_baseline(self.baseline, rewards, scorable=scorable)
        return found

    def _with_critic(self, batch: Batch, each: Tensor, rewards: Tensor, mask: Tensor) -> Batch:
        if self.units is None and len(rewards) > 0:
            spread = float(rewards.std()) if len(rewards) > 1 else 0.0
            self.units = (float(rewards.mean()), spread if spread > 0 else 1.0)
        mean, spread = self.units or (0.0, 1.0)
        said = batch.columns["old_values"]
        values = torch.where(mask, said * spread + mean, 0.0)
        advantages, returns = gae(each, values, mask, discount=self.discount, lam=self.gae_lambda)
        taught = whiten(advantages, mask) * float(self.num_rollouts > self.warmup)
        return batch.with_columns(advantages=taught, returns=torch.where(mask, (returns - mean) / spread, 0.0))

    def _laid_on_tokens(self, batch: Batch, judged: Sequence[Judged], rewards: Tensor, mask: Tensor) -> Tensor:
        """[N, T] what each token earns: what a reward placed on the token that ends there, the rest on the last one."""
        spans: list[tuple[float, int, int]] = []
        rest = rewards.clone()
        for n, one in enumerate(judged):
            if not one.placed or not bool(mask[n].any()):
                continue
            assert self.text_ends is not None, "rewards that are placed need the characters after each token"
            ends = self.text_ends(batch.tokens[n, : int(batch.lengths[n])].tolist())
            last = int(mask[n].nonzero().max())
            for place, amount in one.placed:
                token = next((t for t, end in enumerate(ends[:last]) if end >= place), last)
                spans.append((amount, n, token))
                rest[n] -= amount
        each = token_rewards(rest, mask)
        if not spans:
            return each
        amounts, answers, tokens = zip(*spans, strict=True)
        return each + place_rewards(
            torch.as_tensor(amounts, dtype=torch.float32), torch.as_tensor(answers), torch.as_tensor(tokens), mask
        )

    def _steer(self, batch: Batch, mask: Tensor, target: float) -> None:
        """Move the factor for the next rollout by what this one's KL is above or below the target."""
        behaviour, reference = batch.columns["behaviour_logprobs"], batch.columns["ref_logprobs"]
        measured = float(k3(behaviour, reference)[mask].mean()) if bool(mask.any()) else target
        self.kl_factor = adapted_kl_weight(
            self.kl_factor, measured, num_answers=len(batch.group), target=target, horizon=self.kl_horizon
        )


def read_together(reader: Reader, batch: Batch, *, token_budget: int) -> Tensor:
    """[N, T] what a model says of every answer of a batch that all processes hold; each reads its share of the prompts
    in portions under the token budget."""
    own = batch.select(own_share(range(len(batch.prompts))))
    return gathered_rows(read_in_portions(reader, own, token_budget=token_budget), batch.tokens.shape[1])
