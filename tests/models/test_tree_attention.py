"""Attention without copies of the prompt's keys is the attention with them, in every gradient."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, make_batch
from sightline.models import attention
from sightline.models.attention import TreePlan
from sightline.models.layout import Layout, pack
from tests.tiny import prompt_tokens, random_ids

NO_IMAGE, HEADS, WIDTH = -1, 4, 8
LENGTHS: dict[str, list[list[int]]] = {
    "even": [[5, 5], [5, 5]],
    "ragged": [[2, 17, 9], [4], [1, 30, 30, 3]],
    "an answer of one token is never read": [[1, 6], [1, 1]],
    "nothing is read": [[1], [1, 1]],
    "a prompt without answers": [[3, 8], [], [2]],
}


def layout_of(name: str, *, joined: bool) -> Layout:
    prompts = [prompt_tokens(str(n), num_text=4 + 3 * n, seed=n) for n in range(len(LENGTHS[name]))]
    answers = [[random_ids(length, 10 * n + k) for k, length in enumerate(row)] for n, row in enumerate(LENGTHS[name])]
    batch: Batch = make_batch(prompts, answers)
    layout = pack(batch, image_token=NO_IMAGE)
    if not joined:
        return layout
    blocks = torch.full_like(layout.tokens, -1)
    blocks[layout.prompts.places[:, 1:4].flatten()] = torch.arange(len(prompts)).repeat_interleave(3)
    return replace(layout, joined=blocks)


def attended(layout: Layout, kv_heads: int, scaling: float | None) -> list[Tensor]:
    """What the layer gives, and its gradients by query, key and value."""
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(len(layout.tokens), heads, WIDTH, generator=generator).requires_grad_()
        for heads in (HEADS, kv_heads, kv_heads)
    ]
    found = TreePlan(layout=layout).attend(0, given[0], given[1], given[2], scaling)
    weight = torch.randn(found.shape, generator=generator)
    return [found.detach(), *torch.autograd.grad((found * weight).sum(), given)]


@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("name", LENGTHS)
def test_it_equals_attention_over_copied_keys(
    name: str, kv_heads: int, joined: bool, scaling: float | None, monkeypatch: pytest.MonkeyPatch
):
    layout = layout_of(name, joined=joined)
    found = attended(layout, kv_heads, scaling)
    monkeypatch.setattr(attention, "_in_float32", lambda *given: False)
    for mine, copied in zip(found, attended(layout, kv_heads, scaling), strict=True):
        torch.testing.assert_close(mine, copied, atol=5e-6, rtol=1e-5)


def test_padded_queries_of_large_size_leave_no_trace():
    """A padded place repeats the first token, whose products with other keys may be anything."""
    layout = layout_of("ragged", joined=False)
    given = [torch.full((len(layout.tokens), HEADS, WIDTH), 1.0) for _ in range(3)]
    given[0][0] = given[1][-1] = 60.0
    query, key, value = (x.requires_grad_() for x in given)
    gradients = torch.autograd.grad(
        TreePlan(layout=layout).attend(0, query, key, value, None).sum(), [query, key, value]
    )
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
