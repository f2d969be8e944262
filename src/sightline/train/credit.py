"""From what the rewards said to columns that an objective reads: advantages, returns, old values, the reference.

Everything is worked out once per rollout, over all its answers, before it is cut into updates: a whitening or a
baseline of the batch then does not depend on how many updates follow. The formulas are those of objectives/.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.batch import Batch
from sightline.objectives.advantages import (
    Rewarded,
    advantage,
    gdpo,
    moving_baseline,
    token_returns,
    token_rewards,
    whiten,
)
from sightline.objectives.values import gae
from sightline.rewards.contract import Judged
from sightline.train.engine import split

Reader = Callable[[Batch], Tensor]


@dataclass(slots=True, kw_only=True)
class Credit:
    """Gives the answers of a rollout their advantages. State: the moving baseline, rollouts so far."""

    rule: str
    """A name of objectives/advantages.py, or "gae" for the critic's."""
    token_budget: int
    """Most packed tokens that reference and critic read at once."""
    reference: Reader | None = None
    """[N, T] log-probs of the reference, where the objective or the reward compares with it."""
    values: Reader | None = None
    """[N, T] the critic's values as they stand, for "gae"."""
    kl_in_reward: float = 0.0
    """Weight of the log-ratio to the reference that is taken off the reward of each token."""
    discount: float = 1.0
    """Of rewards that lie further ahead."""
    gae_lambda: float = 0.95
    """Between trusting the critic and the reward alone."""
    apart: tuple[tuple[str, float], ...] = ()
    """Names and weights of rewards that are normalised one by one and then summed; empty: their sum is used."""
    warmup: int = 0
    """First rollouts from which the critic alone learns."""
    baseline: float | None = None
    """Moving mean of rewards so far, for "reinforce"."""
    num_rollouts: int = 0
    """Rollouts so far."""

    def __call__(self, batch: Batch, judged: Sequence[Judged], scorable: Tensor) -> Batch:
        """The batch with its columns."""
        self.num_rollouts += 1
        rewards = torch.as_tensor([0.0 if one.value is None else one.value for one in judged], dtype=torch.float32)
        if self.reference is not None:
            batch = batch.with_columns(
                ref_logprobs=read_in_portions(self.reference, batch, token_budget=self.token_budget)
            )
        mask = batch.mask & scorable[:, None]
        kl = torch.zeros(batch.tokens.shape)
        if self.kl_in_reward > 0:
            kl = (batch.columns["behaviour_logprobs"] - batch.columns["ref_logprobs"]) * mask
        if self.rule == "gae":
            return self._with_critic(batch, rewards, mask, kl)
        if self.rule == "reinforce_pp":
            each = token_rewards(rewards, mask, kl=kl, kl_weight=self.kl_in_reward)
            return batch.with_columns(advantages=whiten(token_returns(each, mask, discount=self.discount), mask))
        rewards = rewards - self.kl_in_reward * kl.sum(1)
        return batch.with_columns(advantages=self._compared(batch, rewards, judged, scorable))

    def state(self) -> dict[str, Any]:
        """The moving baseline and how many rollouts there were, as plain JSON."""
        return {"baseline": self.baseline, "num_rollouts": self.num_rollouts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.baseline, self.num_rollouts = state["baseline"], state["num_rollouts"]

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

    def _with_critic(self, batch: Batch, rewards: Tensor, mask: Tensor, kl: Tensor) -> Batch:
        assert self.values is not None, "gae needs a critic"
        values = read_in_portions(self.values, batch, token_budget=self.token_budget)
        each = token_rewards(rewards, mask, kl=kl, kl_weight=self.kl_in_reward)
        advantages, returns = gae(each, values, mask, discount=self.discount, lam=self.gae_lambda)
        taught = whiten(advantages, mask) * float(self.num_rollouts > self.warmup)
        return batch.with_columns(advantages=taught, returns=returns, old_values=values)


def read_in_portions(reader: Reader, batch: Batch, *, token_budget: int) -> Tensor:
    """[N, T] what a model says of every answer, read without gradient in portions under the token budget."""
    found = torch.zeros(batch.tokens.shape)
    start = 0
    with torch.no_grad():
        for part in split(batch, token_budget=token_budget):
            given = reader(part).float().cpu()
            found[start : start + part.num_answers, : given.shape[1]] = given
            start += part.num_answers
    return found
