from contextlib import suppress

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sightline.models import attention
from sightline.models.attention import PLANNED, TreePlan, attention_of
from sightline.models.layout import pack
from tests.tiny import ragged_batch, tiny_model, tiny_processor

WIDTH = 8


def rows(*, num: int, asked: int, seen: int, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((num, asked, heads, WIDTH), (num, seen, kv_heads, WIDTH), (num, seen, kv_heads, WIDTH))
    query, key, value = (torch.randn(shape).requires_grad_() for shape in shapes)
    return query, key, value


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """What torch says, key-value heads repeated by hand."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling)
    return out.transpose(1, 2)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_both_ways_of_attending_equal_torch_with_their_gradients(
    heads: int, kv_heads: int, scaling: float | None, written_out: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attention, "WRITTEN_OUT_DTYPES", (torch.float32,) if written_out else ())
    asked, seen = (3, 7) if masked else (5, 5)
    inputs = rows(num=2, asked=asked, seen=seen, heads=heads, kv_heads=kv_heads)
    mask = None
    if masked:
        mask = torch.rand(2, 1, asked, seen) > 0.4
        mask[..., -1] = True
    found = attention.softmax_rows(*inputs, mask, scaling)
    wanted = fused(*inputs, mask, scaling)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    weights = torch.randn(found.shape)
    for mine, theirs in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((wanted * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_causal_rows_in_blocks_equal_torch_with_their_gradients(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "WRITTEN_OUT_DTYPES", (torch.float32,))
    monkeypatch.setattr(attention, "CAUSAL_BLOCK", block)
    inputs = rows(num=2, asked=5, seen=5, heads=4, kv_heads=2)
    found, wanted = attention.softmax_rows(*inputs, None, None), fused(*inputs, None, None)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(wanted.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_answers", [1, 3])
def test_the_tree_equals_one_dense_mask_over_the_whole_sequence(num_answers: int):
    layout = pack(ragged_batch(num_answers=num_answers), image_token=tiny_processor().image_token_id)
    length = len(layout.tokens)
    allowed = torch.zeros(length, length, dtype=torch.bool)
    prompts = [row[mask] for row, mask in zip(layout.prompts.places, layout.prompts.mask, strict=True)]
    for places in prompts:
        allowed[places[:, None], places] = torch.ones(len(places), len(places), dtype=torch.bool).tril()
    for bucket in layout.answers:
        for row, mask, prompt in zip(bucket.places, bucket.mask, bucket.prompt.tolist(), strict=True):
            own = row[mask]
            allowed[own[:, None], prompts[prompt]] = True
            allowed[own[:, None], own] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
    query, key, value = rows(num=1, asked=length, seen=length, heads=4, kv_heads=2)
    found = TreePlan(layout=layout).attend(0, query[0], key[0], value[0], None)
    wanted = fused(query, key, value, allowed[None, None], None)[0]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_the_model_has_its_own_attention_back_after_the_block():
    config = tiny_model().model.language_model.config
    before = config._attn_implementation
    with suppress(KeyError), attention_of(config, PLANNED):
        assert config._attn_implementation == PLANNED
        raise KeyError
    assert config._attn_implementation == before
