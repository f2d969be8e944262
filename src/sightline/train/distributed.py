"""Sums over processes. With one process everything here is the identity."""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_size() -> tuple[int, int]:
    """Number of this process and of all."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def sum_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Each named number summed over processes, in float64; a name that one process lacks counts as zero there."""
    if rank_and_size()[1] == 1:
        return dict(values)
    names: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(names, sorted(values))
    everywhere = sorted({name for some in names for name in some})
    packed = torch.tensor([values.get(name, 0.0) for name in everywhere], dtype=torch.float64)
    dist.all_reduce(packed)
    return dict(zip(everywhere, packed.tolist(), strict=True))


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Gradients summed over processes, in place; a parameter without one takes part with zeros."""
    if rank_and_size()[1] == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
