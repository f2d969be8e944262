"""AdamW and learning-rate schedules; a schedule is a pure function of the step."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor

Schedule = Callable[[int], float]


def make_optimiser(
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    beside: Iterable[nn.Parameter] = (),
    beside_scale: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW; weight decay falls on matrices only, not on biases and norms.

    The parameters `beside` (a critic's) learn at `beside_scale` times the rate of the others.
    """
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        raise ValueError("nothing is trained: every parameter is frozen; set model.train or unfreeze a part")
    groups = [
        {"params": [p for p in some if (p.dim() >= 2) == matrices], "weight_decay": decay, "scale": scale}
        for some, scale in ((trained, 1.0), (list(beside), beside_scale))
        for matrices, decay in ((True, weight_decay), (False, 0.0))
    ]
    every = [p for group in groups for p in group["params"]]
    in_one = all(
        p.device.type == "cpu" and not isinstance(p, DTensor) for p in every
    )  # on CUDA torch joins them itself
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=learning_rate, betas=betas, eps=epsilon, fused=in_one or None
    )


def make_schedule(kind: str, *, learning_rate: float, num_steps: int, warmup_fraction: float = 0.0) -> Schedule:
    """Learning rate of each update (counted from 0): linear warm-up, then constant, linear or cosine to zero."""
    num_warmup = round(num_steps * warmup_fraction)
    if kind not in ("constant", "linear", "cosine"):
        raise ValueError(f"there is no schedule {kind!r}; the schedules are constant, linear, cosine")

    def rate(step: int) -> float:
        if step < num_warmup:
            return learning_rate * (step + 1) / num_warmup
        done = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
        if kind == "constant":
            return learning_rate
        return learning_rate * (1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * done)))

    return rate
