"""One update from one batch: micro-batches under a token budget, counts first, one gradient, one step.

Knows neither which objective nor which feed. Any split of a step, over micro-batches or over processes, gives the
same gradient, because totals are divided by counts of the whole step.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from sightline.batch import Batch, ImageInput, Outcome, Scores, split
from sightline.models.forward import Policy
from sightline.models.layout import packed_length
from sightline.objectives.objective import Objective
from sightline.progress import each
from sightline.train.coupled import derive, score_parts, score_step, send_back
from sightline.train.distributed import largest_of, rank_and_size, sum_gradients, sum_over_ranks
from sightline.train.optim import Schedule

MAX_BAD_STEPS = 3
Quarantine = Callable[[Batch, int, str], str]


class TrainingStopped(RuntimeError):
    """The run cannot go on; the text says what happened and what to do."""


@dataclass(slots=True, kw_only=True)
class Engine:
    """Holds what lives across updates: optimiser, step count, and how many steps in a row were not finite."""

    policy: Policy
    """Scores batches; its trainable parameters are updated."""
    objective: Objective
    """Turns scores into totals."""
    optimiser: torch.optim.Optimizer
    """Holds the trained parameters."""
    schedule: Schedule
    """Learning rate of each update."""
    token_budget: int
    """Most tokens of the packed layout in one micro-batch; a larger group is cut between its answers."""
    max_grad_norm: float
    """Gradients are scaled down to this norm; 0 leaves them."""
    quarantine: Quarantine
    """Saves the batch of a step that was not finite and says where."""
    step: int = 0
    """Updates so far, skipped ones included."""
    bad_steps: int = 0
    """Steps in a row that were not finite."""
    model_seconds: float = 0.0
    """Time that the last update spent in forward and backward passes."""

    def update(self, batch: Batch) -> dict[str, float]:
        """One step on the batch; returns its metrics."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule(self.step) * group.get("scale", 1.0)
        began = time.monotonic()
        totals, counts = self.accumulate(batch)
        self.model_seconds = time.monotonic() - began
        parameters = self.parameters()
        sum_gradients(parameters)
        norm = gradient_norm(parameters)
        metrics = _means(totals, counts)
        loss = self._loss(metrics)
        metrics |= {
            "loss/total": loss,
            "optim/grad_norm": norm,
            "optim/learning_rate": self.schedule(self.step),
        }
        finite = math.isfinite(loss) and math.isfinite(norm)
        metrics["optim/skipped"] = float(not finite)
        if finite:
            self._apply(parameters, norm)
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        if not finite:
            self._refuse(batch, loss, norm)
        self.bad_steps = 0 if finite else self.bad_steps
        return metrics

    def accumulate(self, batch: Batch) -> tuple[dict[str, float], dict[str, float]]:
        """Gradients of the whole batch into `.grad`; totals and counts of every term and metric, over all ranks."""
        counts = sum_over_ranks(_named(self.objective.counts(batch)))
        totals: dict[str, float] = {}
        metric_counts: dict[str, float] = {}
        vision = self.policy.vision
        vision.begin_step(self._seen(batch))
        try:
            parts = self._portions(batch)
            if self.objective.coupled:
                self._backward_coupled(parts, batch, counts, totals, metric_counts)
            else:
                for micro in each(parts, "micro-batch", len(parts)):
                    self._backward(micro, counts, totals, metric_counts)
            vision.end_step()
        finally:
            vision.abandon_step()
        totals["batch/tokens"] = float(sum(packed_length(part) for part in parts))
        metric_counts["batch/tokens"] = 0.0
        return sum_over_ranks(totals), counts | sum_over_ranks(metric_counts)

    def measure(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The objective's terms and metrics over batches, without touching anything."""
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        with self.policy.whole_weights():
            for batch in each(batches, "batch"):
                for part, scores in self._measured(batch):
                    _add(self.objective.compute(scores, part), totals, counts)
                    for name, count in _named(self.objective.counts(part)).items():
                        counts[name] = counts.get(name, 0.0) + count
        metrics = _means(sum_over_ranks(totals), sum_over_ranks(counts))
        return metrics | {"loss/total": self._loss(metrics)}

    def _portions(self, batch: Batch) -> list[Batch]:
        """Micro-batches; where weights are cut, as many as the process with most has, the last ones empty."""
        parts = split(batch, token_budget=self.token_budget)
        if self.policy.sharding is None:
            return parts
        return parts + [batch.select([])] * (largest_of(len(parts)) - len(parts))

    def _seen(self, batch: Batch) -> list[list[ImageInput]]:
        """The step's images in portions of at most the token budget; where weights are cut, as many as the process
        with most has, the last ones empty."""
        images = [image for prompt in batch.prompts for image in prompt.images]
        portions = self.policy.vision.portions(images, token_budget=self.token_budget)
        if self.policy.sharding is None:
            return portions
        return portions + [[]] * (largest_of(len(portions)) - len(portions))

    @torch.no_grad()
    def _measured(self, batch: Batch) -> Iterator[tuple[Batch, Scores]]:
        """The batch in portions with their scores; as one, and from one process alone, where the loss couples it."""
        parts = split(batch, token_budget=self.token_budget)
        if not self.objective.coupled:
            yield from ((part, self._score(part)) for part in parts)
            return
        whole, scores, _ = score_step(parts, batch, score=self._score)
        if rank_and_size()[0] == 0:
            yield whole, scores

    def _loss(self, metrics: dict[str, float]) -> float:
        return sum(weight * metrics.get(f"loss/{name}", 0.0) for name, weight in self.objective.weights.items())

    def parameters(self) -> list[Tensor]:
        """All trained parameters, in the optimiser's order."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def _backward(
        self,
        micro: Batch,
        counts: dict[str, float],
        totals: dict[str, float],
        metric_counts: dict[str, float],
    ) -> None:
        scores = self._score(micro)
        outcome = self.objective.compute(scores, micro)
        loss = self._weighed(outcome, counts)
        if self.policy.sharding is not None:  # all processes go back through the layers
            nothing = 0.0 * torch.stack([value.sum() for value in scores.by_name().values()]).sum()
            loss = nothing if loss is None else loss + nothing
        if loss is not None and loss.requires_grad:
            loss.backward()
        _add(outcome, totals, metric_counts)

    def _backward_coupled(
        self,
        parts: list[Batch],
        batch: Batch,
        counts: dict[str, float],
        totals: dict[str, float],
        metric_counts: dict[str, float],
    ) -> None:
        derived = derive(
            parts,
            batch,
            score=self._score,
            objective=self.objective,
            loss=lambda outcome, whole: self._weighed(outcome, _named(whole)),
        )
        send_back(parts, derived, score=self._score)
        counts |= _named(derived.counts)  # of the whole step: nothing to be summed over processes
        if rank_and_size()[0] == 0:  # the outcome is that of all processes; one of them says it
            _add(derived.outcome, totals, metric_counts)

    def _score(self, micro: Batch) -> Scores:
        return self.policy.score(micro, want=self.objective.wants)

    def _weighed(self, outcome: Outcome, counts: dict[str, float]) -> Tensor | None:
        """The loss; None for a step that holds nothing to learn."""
        weights = self.objective.weights
        parts = [weights[k] * t / counts[f"loss/{k}"] for k, t in outcome.terms.items() if counts[f"loss/{k}"] > 0]
        return torch.stack(parts).sum() if parts else None

    def _apply(self, parameters: list[Tensor], norm: float) -> None:
        if self.max_grad_norm > 0 and norm > self.max_grad_norm:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(self.max_grad_norm / norm)
        self.optimiser.step()

    def _refuse(self, batch: Batch, loss: float, norm: float) -> None:
        self.bad_steps += 1
        where = self.quarantine(batch, self.step, f"loss {loss}, gradient norm {norm}")
        if self.bad_steps >= MAX_BAD_STEPS:
            raise TrainingStopped(
                f"{MAX_BAD_STEPS} steps in a row were not finite (loss {loss}, gradient norm {norm} at step "
                f"{self.step}); the last batch is kept in {where}; lower optim.learning_rate or "
                "look at that batch, then resume"
            )


@torch.no_grad()
def read_step(policy: Policy, batch: Batch, *, want: frozenset[str], token_budget: int) -> Scores:
    """What the policy says of a step's answers, on CPU, in the portions and with the features of an update on them.

    Before that update it is, bit for bit, what the update sees. Where weights are cut, they must be together.
    """
    images = [image for prompt in batch.prompts for image in prompt.images]
    policy.vision.begin_step(policy.vision.portions(images, token_budget=token_budget))
    try:
        parts = split(batch, token_budget=token_budget)
        return score_parts(parts, batch, score=lambda part: policy.score(part, want=want))
    finally:
        policy.vision.abandon_step()


def gradient_norm(parameters: list[Tensor]) -> float:
    """Euclidean norm over all gradients, those that are cut over the processes included."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = [gradient.float().norm() for gradient in gradients if not isinstance(gradient, DTensor)]
    cut = [gradient.to_local().float().norm() for gradient in gradients if isinstance(gradient, DTensor)]
    if cut:
        squares = sum_over_ranks({"all": float(torch.stack(cut).double().square().sum())})["all"]
        norms.append(cut[0].new_tensor(math.sqrt(squares)))
    return float(torch.stack(norms).norm()) if norms else 0.0


def _named(counts: Mapping[str, float]) -> dict[str, float]:
    return {f"loss/{name}": count for name, count in counts.items()}


def _add(outcome: Outcome, totals: dict[str, float], counts: dict[str, float]) -> None:
    for name, term in outcome.terms.items():
        totals[f"loss/{name}"] = totals.get(f"loss/{name}", 0.0) + float(term.detach())
    for name, (total, count) in outcome.metrics.items():
        totals[name] = totals.get(name, 0.0) + total
        counts[name] = counts.get(name, 0.0) + count


def _means(totals: dict[str, float], counts: dict[str, float]) -> dict[str, float]:
    """Totals over their counts; a count of zero marks a plain total."""
    return {name: total / counts[name] if counts.get(name, 0.0) > 0 else total for name, total in totals.items()}
