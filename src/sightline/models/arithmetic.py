"""Which arithmetic this machine is fast in, and from which size on threads help: measured here, once for a process.

torch multiplies in bfloat16 on every processor, but where no instruction does it the product is written out, twenty to
two hundred times slower than in float32; where one does, it is about twice as fast. Neither the name of a processor nor
a list of instructions says which, so a layer is run forward and back in both. Knows nothing of recipes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CLEARLY = 1.2
"""bfloat16 is taken where it is faster by this factor: nearly equal, the exact one is better."""
HOPELESS = 4.0
"""One round is enough where they differ by this factor."""
ROUNDS = 5
ROWS, WIDTH, INNER = 256, 512, 1024
"""The layer that is measured: a few sentences through a small language model's MLP."""

DECODED = 64
"""Answers that are decoded together where threads are measured."""
PRODUCTS = 7
"""Matrices of a layer."""
WORKS = tuple(10**6 * 4**power for power in range(6))
"""Operations of a layer at which threads are measured; beyond, waiting for each other is little beside the work."""

Seconds = Mapping[str, float]
"""Seconds of a layer, by arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What a run computes in, and why."""

    dtype: str
    """"float32" or "bfloat16"."""
    why: str
    """For people: how the other one compares."""

    def __str__(self) -> str:
        """One line of a run."""
        return f"arithmetic: {self.dtype} ({self.why})"


def arithmetic(*, quantised: bool = False, measure: Callable[[], Seconds] | None = None) -> Arithmetic:
    """The arithmetic that is fastest here: of the GPU if there is one, else by measurement.

    `quantised` models keep their weights in four bits and compute in bfloat16. `measure` stands for the clock.
    """
    if quantised:
        return Arithmetic(dtype="bfloat16", why="weights in four bits are multiplied in it")
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Arithmetic(dtype="bfloat16", why=f"{name} multiplies in it")
        return Arithmetic(dtype="float32", why=f"{name} does not multiply in bfloat16")
    seconds = (measure or measured)()
    gain = seconds["float32"] / seconds["bfloat16"]
    if gain >= CLEARLY:
        return Arithmetic(dtype="bfloat16", why=f"{gain:.1f} times as fast as float32 on this processor")
    if gain > 1 / CLEARLY:
        return Arithmetic(dtype="float32", why="bfloat16 is hardly faster or slower on this processor")
    return Arithmetic(dtype="float32", why=f"bfloat16 is {1 / gain:.0f} times slower on this processor")


def dtype_of(asked: str, *, quantised: bool = False) -> str:
    """What was asked for, "auto" made definite."""
    return arithmetic(quantised=quantised).dtype if asked == AUTO else asked


def autocast_of(dtype: str) -> torch.dtype | None:
    """What a forward pass casts to, where that is not float32."""
    return torch.bfloat16 if dtype == "bfloat16" else None


def dtype_name(autocast: torch.dtype | None) -> str:
    """The arithmetic of a forward pass that casts so."""
    return "float32" if autocast is None else str(autocast).removeprefix("torch.")


@cache
def measured() -> Seconds:
    """Least seconds of processor time of a layer's forward and backward pass, in both arithmetics, taken in turns.

    Processor time does not count what other work takes of the cores; the least of several leaves out the rest.
    """
    with torch.random.fork_rng(devices=[]):
        steps = {name: _step(autocast_of(name)) for name in DTYPES}
    for step in steps.values():
        step(ROWS // 8)  # libraries make their kernels at the first call
    least = dict.fromkeys(DTYPES, float("inf"))
    for _ in range(ROUNDS):
        for name, step in steps.items():
            began = time.process_time()
            step(ROWS)
            least[name] = min(least[name], time.process_time() - began)
        if max(least.values()) > HOPELESS * min(least.values()):
            break
    return least


@cache
def one_thread_below(dtype: str, num_threads: int) -> float:
    """Operations of a decoding step in one layer below which one thread of the CPU is faster than so many.

    A step is a chain of small products, and threads that share one wait for each other at its end.
    """
    if num_threads == 1 or torch.cuda.is_available():
        return 0.0
    before = torch.get_num_threads()
    try:
        faster = (work for work in WORKS if _threads_help(work, autocast_of(dtype), num_threads))
        return float(next(faster, WORKS[-1]))
    finally:
        torch.set_num_threads(before)


def _threads_help(work: int, autocast: torch.dtype | None, num_threads: int) -> bool:
    """Whether a layer of so many operations takes clearly less time on all threads; the least of turns is compared."""
    width = round((work / (2 * DECODED * PRODUCTS)) ** 0.5)
    matrix, states = torch.ones(width, width), torch.ones(DECODED, width)
    least = dict.fromkeys((1, num_threads), float("inf"))
    for _ in range(ROUNDS + 1):  # the first one makes kernels and starts threads
        for threads in least:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            with torch.no_grad(), torch.autocast("cpu", autocast, enabled=autocast is not None):
                for _ in range(PRODUCTS):
                    torch.nn.functional.linear(states, matrix)
            least[threads] = min(least[threads], time.perf_counter() - began)
    return least[1] > CLEARLY * least[num_threads]


def _step(autocast: torch.dtype | None) -> Callable[[int], None]:
    """A layer's forward and backward pass over so many rows."""
    layer = nn.Sequential(nn.Linear(WIDTH, INNER), nn.SiLU(), nn.Linear(INNER, WIDTH))
    states = torch.randn(ROWS, WIDTH)

    def step(num_rows: int) -> None:
        with torch.enable_grad():
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                made = layer(states[:num_rows])
            torch.autograd.grad(made.float().sum(), list(layer.parameters()))

    return step
