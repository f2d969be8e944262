"""Checks on a run's own batches: the packed forward and the sampler held to the plain twin, the policy to its
reference, answers to their pictures; and batches kept for a post-mortem."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sightline.batch import Batch, read_in_portions
from sightline.models.forward import Policy
from sightline.train.engine import TrainingStopped

FLOOR = {None: 1e-5, torch.bfloat16: 4 * torch.finfo(torch.bfloat16).eps}
"""Smallest tolerance per token by what the forward computes in: differences of rounding, not of meaning."""


def check_first_batch(policy: Policy, batch: Batch) -> str:
    """One group, at most two answers, fast against plain, in the run's arithmetic; returns a sentence or raises.

    The tolerance is twice what the plain twin itself shows, in this arithmetic, between a row alone and the row in
    a batch and between two of its own attention kernels; never below FLOOR. In float32 the largest difference
    counts. In less, rounding makes rare tokens differ by chance, so the root mean square counts, and when that is too
    large and the weights are float32, the check is made again in float32, whose word is final.
    """
    batch = first_answers(batch)
    difference, tolerance = _compared(policy, batch)
    where = ""
    if difference > tolerance and policy.autocast is not None and _in_float32(policy):
        difference, tolerance = _compared(policy.in_float32(), batch)
        where = " in float32"
    if not difference <= tolerance:
        raise TrainingStopped(
            f"the shared-prompt forward differs from the plain one by {difference:.2g} per token{where} on prompt "
            f"{batch.prompts[0].id!r} (allowed {tolerance:.2g}); training would be wrong, so please report the model"
        )
    found = f"(difference {difference:.1g}{where}, allowed {tolerance:.1g})"
    return f"the shared-prompt forward equals the plain one {found}"


Drawn = tuple[Batch, Tensor]
"""Answers that were sampled, and the log-probabilities [N, T] that the sampler gave their tokens."""


def sampler_apart(policy: Policy, draw: Callable[[Policy], Drawn]) -> tuple[float, float]:
    """How far the sampler's log-probs are from the trainer's on its own answers, and how far they may be.

    The tolerance is that of `check_first_batch`; in less than float32 the last word is had in float32, where the
    weights are.
    """
    batch, said = draw(policy)
    difference, tolerance = _compared(policy, batch, said)
    if difference > tolerance and policy.autocast is not None and _in_float32(policy):
        exact = policy.in_float32()
        batch, said = draw(exact)
        return _compared(exact, batch, said)
    return difference, tolerance


def reference_apart(
    policy: Policy, batch: Batch, reference: Callable[[Batch], Tensor], *, token_budget: int
) -> tuple[float, float]:
    """Difference per token between policy and reference (in float32 the largest, in less the root mean square, since
    log-probs that were kept were read in other company), and what rounding may make of nothing."""
    mine = read_in_portions(lambda part: policy.score(part).logprobs, batch, token_budget=token_budget)
    with torch.no_grad():
        theirs = reference(batch).cpu()
    return _size(policy, (mine - theirs)[batch.mask]), FLOOR[policy.autocast]


def picture_effect(policy: Policy, batch: Batch, blank: Batch, *, token_budget: int) -> list[tuple[float, float]]:
    """For each prompt with pictures: by how much a token's log-prob changes, up or down, when its pictures are replaced
    by the blank ones of `blank`, and how much likelier it is with them; means over the tokens of its answers."""
    with_pictures, without = (
        read_in_portions(lambda part: policy.score(part).logprobs, read, token_budget=token_budget)
        for read in (batch, blank)
    )
    gained = with_pictures - without
    found: list[tuple[float, float]] = []
    for number, prompt in enumerate(batch.prompts):
        rows = batch.group == number
        tokens = gained[rows][batch.mask[rows]]
        if prompt.images and len(tokens):
            found.append((float(tokens.abs().mean()), float(tokens.mean())))
    return found


def _compared(policy: Policy, batch: Batch, fast: Tensor | None = None) -> tuple[float, float]:
    """How far fast (by default the packed forward) and plain are apart, and how far they may be."""
    with torch.no_grad():
        fast = policy.score(batch).logprobs if fast is None else fast
        plain = policy.score_plain(batch).logprobs
        alone = torch.stack([_alone(policy, batch, n) for n in range(batch.num_answers)])
        eager = policy.score_plain(batch, kernel="eager").logprobs
    scored = batch.mask.to(plain.device)

    def apart(other: Tensor) -> float:
        return _size(policy, (other.to(plain.device) - plain)[scored])

    return apart(fast), max(FLOOR[policy.autocast], 2 * max(apart(alone), apart(eager)))


def _size(policy: Policy, differences: Tensor) -> float:
    """The largest in float32; in less, where rare tokens differ by chance, the root mean square."""
    differences = differences.abs().double()
    return float(differences.max() if policy.autocast is None else differences.square().mean().sqrt())


def _in_float32(policy: Policy) -> bool:
    return all(parameter.dtype == torch.float32 for parameter in policy.model.parameters())


def first_answers(batch: Batch) -> Batch:
    """The first group of a batch with at most two of its answers, without pairs."""
    first = batch.select([0])
    kept = slice(0, 2)
    longest = int(first.lengths[kept].max())
    return Batch(
        prompts=first.prompts,
        group=first.group[kept],
        tokens=first.tokens[kept, :longest],
        lengths=first.lengths[kept],
        mask=first.mask[kept, :longest],
    )


def save_batch(folder: Path, batch: Batch, step: int, why: str, *, process: int = 0) -> str:
    """Keep a batch whose step was not finite: tokens as safetensors, prompts and reason as JSON."""
    name = f"step-{step:06d}" + (f"-process-{process}" if process else "")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"group": batch.group, "tokens": batch.tokens, "lengths": batch.lengths, "mask": batch.mask}
    tensors |= {f"columns.{name}": value.contiguous() for name, value in batch.columns.items()} | {"pairs": batch.pairs}
    save_file({name: value.clone() for name, value in tensors.items()}, folder / f"{name}.safetensors")
    prompts = [{"id": p.id, "ids": list(p.ids), "images": [i.key for i in p.images]} for p in batch.prompts]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"step": step, "why": why, "prompts": prompts}))
    return str(path)


def _alone(policy: Policy, batch: Batch, row: int) -> Tensor:
    one = Batch(
        prompts=batch.prompts,
        group=batch.group[row : row + 1],
        tokens=batch.tokens[row : row + 1],
        lengths=batch.lengths[row : row + 1],
        mask=batch.mask[row : row + 1],
    )
    return policy.score_plain(one).logprobs[0]
