"""How long the machine takes for the matrix products of a step alone, each at its own sizes: what a step cannot beat.

The share of this in the step's time is its achieved rate over that of the products.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import torch

from bench.operations import Product

LEAST_SECONDS, LEAST_CALLS = 0.02, 3


def product_seconds(products: Iterable[Product], *, dtype: torch.dtype, device: str) -> float:
    """Sum over all products of the median time of each, in one dtype."""
    calls: Counter[Product] = Counter()
    for product in products:
        calls[replace(product, times=1)] += product.times
    return sum(number * _median_seconds(product, dtype, device) for product, number in calls.items())


@torch.no_grad()
def _median_seconds(product: Product, dtype: torch.dtype, device: str) -> float:
    left = torch.randn(product.batch, product.rows, product.inner, dtype=torch.float32, device=device).to(dtype)
    right = torch.randn(product.batch, product.inner, product.columns, dtype=torch.float32, device=device).to(dtype)
    if product.batch == 1:
        left, right = left[0], right[0]
    found: list[float] = []
    torch.matmul(left, right)
    while len(found) < LEAST_CALLS or sum(found) < LEAST_SECONDS:
        _finish(device)
        began = time.perf_counter()
        torch.matmul(left, right)
        _finish(device)
        found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
