"""Answers with made-up log-probabilities, and what every objective must show about them."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sightline.batch import Batch, Scores
from sightline.objectives.objective import Objective
from tests.tiny import ragged_batch


def scored_batch(*, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Batch, Tensor]:
    """Three groups of three ragged answers, two pairs in each, and log-probabilities of all tokens."""
    generator = torch.Generator().manual_seed(seed)
    batch = ragged_batch(num_answers=3, seed=seed)
    pairs = torch.tensor([[3 * g + i, 3 * g + j] for g in range(3) for i, j in ((0, 1), (2, 1))])
    reference, logprobs = (
        -5 * torch.rand(batch.tokens.shape, generator=generator, dtype=dtype) * batch.mask for _ in range(2)
    )
    batch = replace(batch, pairs=pairs, pair_columns={"margin": torch.ones(len(pairs))})
    return batch.with_columns(ref_logprobs=reference), logprobs.requires_grad_()


def result(objective: Objective, batch: Batch, logprobs: Tensor) -> tuple[Mapping[str, float], Tensor]:
    """Every term and metric over its count, and the gradient of the weighted loss by the log-probabilities."""
    counts = objective.counts(batch)
    outcome = objective.compute(Scores(logprobs=logprobs), batch)
    loss = sum(objective.weights[name] * total / counts[name] for name, total in outcome.terms.items())
    assert isinstance(loss, Tensor)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    means = {name: float(total.detach()) / counts[name] for name, total in outcome.terms.items()}
    return means | {name: total / count for name, (total, count) in outcome.metrics.items()}, gradient


def padded(batch: Batch, logprobs: Tensor, *, extra: int = 3) -> tuple[Batch, Tensor]:
    """The same answers with more padding, in which wild numbers lie."""
    wild = torch.full((batch.num_answers, extra), 7.0, dtype=logprobs.dtype)
    nothing = torch.zeros(batch.num_answers, extra)
    return (
        replace(
            batch,
            tokens=torch.cat([batch.tokens, nothing.long()], 1),
            mask=torch.cat([batch.mask, nothing.bool()], 1),
            columns={name: torch.cat([value, wild], 1) for name, value in batch.columns.items()},
        ),
        torch.cat([logprobs, wild], 1).detach().requires_grad_(),
    )


def reordered(batch: Batch, logprobs: Tensor, order: list[int]) -> tuple[Batch, Tensor, Tensor]:
    """The groups in another order; also which row of the old batch each row is."""
    rows = torch.cat([(batch.group == prompt).nonzero().squeeze(1) for prompt in order])
    other = batch.select(order)
    return other, logprobs[rows][:, : other.tokens.shape[1]].detach().requires_grad_(), rows


def in_parts(objective: Objective, batch: Batch, logprobs: Tensor, parts: list[list[int]]) -> Tensor:
    """Gradient of a step cut into micro-batches, each total divided by the count of the whole step."""
    counts = objective.counts(batch)
    gradient = torch.zeros_like(logprobs)
    for part in parts:
        micro, scores, rows = reordered(batch, logprobs, part)
        outcome = objective.compute(Scores(logprobs=scores), micro)
        loss = sum(objective.weights[name] * total / counts[name] for name, total in outcome.terms.items())
        assert isinstance(loss, Tensor)
        gradient[rows, : scores.shape[1]] += torch.autograd.grad(loss, scores)[0]
    return gradient
