"""What the processes of one run tell each other. With one process everything here is the identity.

All processes hold the same rows and the same rollouts, and each works on its share of them: the run is then the one
that a single process would make, to rounding, and can go on with another number of processes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

T = TypeVar("T")

PATIENCE = timedelta(minutes=60)
"""How long one process waits for another: the slowest reward of a rollout, the check of all pictures."""
SUMMED_AT_ONCE = 2**24
"""Most numbers that go into one sum over processes."""


@contextmanager
def processes_joined() -> Iterator[None]:
    """The processes that a launcher started (`accelerate launch`, `torchrun`) as one group; alone, nothing happens."""
    if any(os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true" for name in ("FSDP", "DEEPSPEED")):
        raise ValueError(
            "the launcher's configuration asks for FSDP or DeepSpeed, which Sightline sets up itself: launch with "
            "recipes/launch/8_gpus.yaml and set train.shard: true"
        )
    launched = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not launched or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield
    leave()  # after an error the others may never come to it


def leave() -> None:
    """Leave the group when all have come here.

    A process whose weights were cut may abort while Python takes it apart (a thread of torch's that nobody joined, one
    time in ten): end it with `os._exit`, as the command line does.
    """
    wait_for_all()
    dist.destroy_process_group()


def rank_and_size() -> tuple[int, int]:
    """Number of this process and of all."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def own_share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of items that all processes hold: neighbours, as even as can be."""
    rank, size = rank_and_size()
    return items[len(items) * rank // size : len(items) * (rank + 1) // size]


def gathered(items: Sequence[T]) -> list[T]:
    """The items of all processes, in the order of the processes."""
    if rank_and_size()[1] == 1:
        return list(items)
    found: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, list(items))
    return [item for some in found for item in some]


def gathered_rows(rows: Tensor, width: int) -> Tensor:
    """Rows [n, at most width] of all processes under each other, padded with zeros to the width; on CPU."""
    padded = torch.nn.functional.pad(rows.cpu(), (0, width - rows.shape[1]))
    return torch.stack(found) if (found := gathered(list(padded))) else padded


def any_process(flag: bool) -> bool:
    """Whether it holds in one process at least."""
    return any(gathered([flag]))


def largest_of(number: int) -> int:
    """The largest of the processes' numbers."""
    return max(gathered([number]))


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    gathered([None])


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
    """Gradients summed over processes, in place; where a parameter has one in some processes, others give zeros.

    Those of sharded parameters were summed in the backward pass already.
    """
    if rank_and_size()[1] == 1:
        return
    whole = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    used = torch.tensor([parameter.grad is not None for parameter in whole], dtype=torch.int32)
    dist.all_reduce(used)
    for parameter, times in zip(whole, used.tolist(), strict=True):
        if times and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for some in _bunches([parameter.grad for parameter in whole if parameter.grad is not None]):
        packed = torch.cat([gradient.flatten() for gradient in some])
        dist.all_reduce(packed)
        for gradient, summed in zip(some, packed.split([gradient.numel() for gradient in some]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _bunches(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type that are summed together: adapters are many and small."""
    bunch: list[Tensor] = []
    for gradient in gradients:
        fits = sum(g.numel() for g in bunch) + gradient.numel() <= SUMMED_AT_ONCE
        if bunch and not (fits and gradient.dtype == bunch[0].dtype):
            yield bunch
            bunch = []
        bunch.append(gradient)
    if bunch:
        yield bunch


def speaks_of_processes(error: RuntimeError) -> bool:
    """Whether the error is that a process does not answer any more; gloo has no class of its own for that."""
    said = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in said or "connection closed by peer" in said
