"""From judged answers to preference pairs, so that a preference loss learns from the policy's own answers.

Stands where `credit` stands for policy gradients: it gives a rollout what its objective reads. Knows no loss.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sightline.batch import Batch
from sightline.rewards.contract import Judged
from sightline.train.credit import read_together

Which = Literal["best_worst", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Pairs of a rollout's answers to one prompt, the better-rewarded one chosen. Keeps nothing between rollouts."""

    which: Which
    """The best against the worst of a group, or every two that differ."""
    token_budget: int
    """Most packed tokens that the reference reads at once."""
    reference: Callable[[Batch], Tensor] | None = None
    """[N, T] log-probs of the reference."""

    def __call__(self, batch: Batch, judged: Sequence[Judged], scorable: Tensor) -> Batch:
        """The batch with its pairs, their margins and the reference's log-probs."""
        values = [one.value if bool(ok) else None for one, ok in zip(judged, scorable, strict=True)]
        pairs = list(self._pairs(batch.group.tolist(), values))
        if self.reference is not None:
            logprobs = read_together(self.reference, batch, token_budget=self.token_budget)
            batch = batch.with_columns(ref_logprobs=logprobs)
        rows = torch.as_tensor([pair[:2] for pair in pairs], dtype=torch.long).reshape(-1, 2)
        margins = torch.as_tensor([margin for _, _, margin in pairs], dtype=torch.float32)
        return replace(batch, pairs=rows, pair_columns={"margin": margins})

    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def _pairs(self, group: Sequence[int], values: Sequence[float | None]) -> Iterator[tuple[int, int, float]]:
        for number in sorted(set(group)):
            known = [(v, n) for n, v in enumerate(values) if group[n] == number and v is not None]
            ordered = sorted(known, key=lambda item: -item[0])
            if self.which == "best_worst":
                ordered = [ordered[0], ordered[-1]] if ordered else []
            for place, (high, better) in enumerate(ordered):
                for low, worse in ordered[place + 1 :]:
                    if high > low:
                        yield better, worse, high - low
