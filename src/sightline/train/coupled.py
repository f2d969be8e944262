"""Losses that couple a whole step, in two passes: what they need of all answers first, then the gradient bit by bit.

A loss that looks at all answers of a step together (a correlation, a rank in the batch) is no sum over micro-batches.
So the step is scored without gradient, the loss is taken of all scores at once and derived by each, and every
micro-batch is then scored again and sends its part of that derivative back. That is exact, and no more answers than fit
a micro-batch are ever in the model at once. With several processes each one sees all answers and keeps its own part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.distributed as dist
from torch import Tensor

from sightline.batch import Batch, Outcome, Scores
from sightline.objectives.objective import Objective
from sightline.train.distributed import rank_and_size

Score = Callable[[Batch], Scores]
NAMES = tuple(field.name for field in fields(Scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """The loss of a whole step and its derivative by every score of this process."""

    outcome: Outcome
    """Totals over the step, of all processes."""
    counts: Mapping[str, float]
    """What each term is divided by, of all processes."""
    by_score: Mapping[str, Tensor]
    """Name of a score -> derivative, as the scores lie in this process's batch."""


def derive(
    parts: Sequence[Batch],
    batch: Batch,
    *,
    score: Score,
    objective: Objective,
    loss: Callable[[Outcome, Mapping[str, float]], Tensor | None],
) -> Derived:
    """Score the micro-batches `parts` of `batch` without gradient and derive the step's loss by the scores.

    `loss(outcome, counts)` is the weighed sum of the terms.
    """
    batch, scores, own = score_step(parts, batch, score=score)
    leaves = {name: value.detach().requires_grad_() for name, value in scores.by_name().items()}
    outcome, counts = objective.compute(replace(scores, **leaves), batch), objective.counts(batch)
    total = loss(outcome, counts)
    if total is None or not total.requires_grad:
        return Derived(outcome=outcome, counts=counts, by_score={})
    total.backward()
    by_score = {name: leaf.grad[own] for name, leaf in leaves.items() if leaf.grad is not None}
    return Derived(outcome=outcome, counts=counts, by_score=by_score)


def send_back(parts: Sequence[Batch], derived: Derived, *, score: Score) -> None:
    """Score every micro-batch again, with gradient, and send its part of the derivative back."""
    start = 0
    for part in parts:
        end = start + part.num_answers
        mine = score(part).by_name()
        pairs = [
            (value, derivative[start:end, : value.shape[1]])
            for name, derivative in derived.by_score.items()
            if (value := mine.get(name)) is not None and value.requires_grad
        ]
        if pairs:
            torch.autograd.backward([value for value, _ in pairs], [gradient for _, gradient in pairs])
        start = end


def score_step(parts: Sequence[Batch], batch: Batch, *, score: Score) -> tuple[Batch, Scores, slice]:
    """The answers of all processes with their scores, without gradient, and where those of this process lie."""
    scores = score_parts(parts, batch, score=score)
    if rank_and_size()[1] == 1:
        return batch, scores, slice(0, batch.num_answers)
    return _of_all_processes(batch, scores)


@torch.no_grad()
def score_parts(parts: Sequence[Batch], batch: Batch, *, score: Score) -> Scores:
    """The scores of all parts as those of the batch, without gradient; parts lie in its order, trimmed to their own
    longest answer."""
    pieces = [score(part) for part in parts or [batch]]
    widths = {name: value.shape[1] for piece in pieces for name, value in piece.by_name().items()}
    widths |= {name: batch.tokens.shape[1] for name in widths if name != "ratings"}
    found: dict[str, Tensor] = {}
    for name, width in widths.items():
        rows = [piece.by_name()[name] for piece in pieces]
        found[name] = torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in rows])
    return Scores(**found)


def _of_all_processes(batch: Batch, scores: Scores) -> tuple[Batch, Scores, slice]:
    """Batch and scores of all processes, one after another, and where this one's answers lie."""
    mine = (batch, {name: value.cpu() for name, value in scores.by_name().items()})
    gathered: list[tuple[Batch, dict[str, Tensor]]] = [mine] * dist.get_world_size()
    light = replace(batch, prompts=tuple(replace(prompt, images=()) for prompt in batch.prompts))
    dist.all_gather_object(gathered, (light, mine[1]))
    device = scores.logprobs.device
    longest = max(other.tokens.shape[1] for other, _ in gathered)
    names = [name for name in NAMES if all(name in given for _, given in gathered)]
    joined = {
        name: torch.cat([_padded(given[name], longest if name != "ratings" else 0) for _, given in gathered]).to(device)
        for name in names
    }
    start = sum(other.num_answers for other, _ in gathered[: dist.get_rank()])
    return (
        _chained([other for other, _ in gathered], longest),
        Scores(**joined),
        slice(start, start + batch.num_answers),
    )


def _chained(batches: Sequence[Batch], longest: int) -> Batch:
    prompts = [0, *(len(batch.prompts) for batch in batches)]
    answers = [0, *(batch.num_answers for batch in batches)]
    before = [(sum(prompts[: i + 1]), sum(answers[: i + 1])) for i in range(len(batches))]
    columns = {name for batch in batches for name in batch.columns}
    return Batch(
        prompts=tuple(prompt for batch in batches for prompt in batch.prompts),
        group=torch.cat([batch.group + p for batch, (p, _) in zip(batches, before, strict=True)]),
        tokens=torch.cat([_padded(batch.tokens, longest) for batch in batches]),
        lengths=torch.cat([batch.lengths for batch in batches]),
        mask=torch.cat([_padded(batch.mask, longest) for batch in batches]),
        columns={
            name: torch.cat(
                [_padded(c, longest) if c.dim() > 1 else c for c in (batch.columns[name] for batch in batches)]
            )
            for name in columns
        },
        pairs=torch.cat([batch.pairs + n for batch, (_, n) in zip(batches, before, strict=True)]),
        pair_columns={
            name: torch.cat([batch.pair_columns[name] for batch in batches]) for name in batches[0].pair_columns
        },
    )


def _padded(value: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(value, (0, max(0, width - value.shape[1])))
