"""The packed tree's attention in float32 on CPU, without a copy of the prompt's keys for every answer.

All answers of a prompt ask its keys as one row of queries, each answer asks its own keys, and the two results are
weighed by how much of the softmax each had. Given the joint result and the joint normaliser, the fused kernel's
backward pass is exact for either part alone, so nothing is computed twice. Every token lies in one row of each kind:
gradients come back by selection and are never scattered.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.models.layout import Layout, Rows, laid_out

FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
NOTHING = 1e30
"""Normaliser of padded queries: everything that they see weighs nothing."""


class TreeAttention(torch.autograd.Function):
    """Of query [L, heads, width] and key, value [L, fewer heads, width] what each token gathers, [L, heads, width]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        mask: Tensor | None,
        scaling: float | None,
    ) -> Tensor:
        """`mask` is what a prompt's tokens see of it (attention.prompt_mask)."""
        found, normaliser = torch.empty_like(query), query.new_empty(query.shape[:2])
        prompt_query, prompt_key, prompt_value = (_rows(x, layout.prompts, query.shape[1]) for x in (query, key, value))
        seen = _additive(mask, query.dtype)
        given = FORWARD(prompt_query, prompt_key, prompt_value, 0.0, mask is None, attn_mask=seen, scale=scaling)
        _place(found, normaliser, layout.prompts, *given)
        if layout.answers:
            own, own_normaliser = torch.empty_like(query), torch.empty_like(normaliser)
            for rows in layout.answers:
                asked = (_rows(x, rows, query.shape[1]) for x in (query, key, value))
                _place(own, own_normaliser, rows, *FORWARD(*asked, 0.0, True, attn_mask=None, scale=scaling))
            tails, hidden = layout.tails, _hidden(layout, query.dtype)
            asked = _rows(query, tails, query.shape[1])
            _place(
                found,
                normaliser,
                tails,
                *FORWARD(asked, prompt_key, prompt_value, 0.0, False, attn_mask=hidden, scale=scaling),
            )
            said = tails.places[tails.mask]
            of_prompt, of_own = normaliser.index_select(0, said), own_normaliser.index_select(0, said)
            joint = torch.logaddexp(of_prompt, of_own)
            share = (of_prompt - joint).exp()[..., None]
            of_both = torch.lerp(own.index_select(0, said), found.index_select(0, said), share)
            found.index_copy_(0, said, of_both)
            normaliser.index_copy_(0, said, joint)
        ctx.save_for_backward(query, key, value, found, normaliser, *([] if mask is None else [mask]))
        ctx.layout, ctx.scaling = layout, scaling
        return found

    # what is ignored: the decorator's type lets `ctx` be given by position alone, the base's also by name
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Each kind of row by itself, with the joint result and normaliser."""
        [gradient] = grad_outputs
        query, key, value, found, normaliser, *masks = ctx.saved_tensors
        layout, scaling, heads = ctx.layout, ctx.scaling, query.shape[1]
        by_query, by_key, by_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)

        def back(asking: Rows, keys: Tensor, values: Tensor, causal: bool, seen: Tensor | None) -> tuple[Tensor, ...]:
            given = _rows(gradient, asking, heads) * asking.mask[:, None, :, None]
            weight = _rows(normaliser[..., None], asking, heads).squeeze(-1)
            weight = torch.where(asking.mask[:, None], weight, NOTHING).transpose(1, 2).contiguous().transpose(1, 2)
            asked, result = _rows(query, asking, heads), _rows(found, asking, heads)
            return BACKWARD(given, asked, keys, values, result, weight, 0.0, causal, attn_mask=seen, scale=scaling)

        prompt_key, prompt_value = (_rows(x, layout.prompts, heads) for x in (key, value))
        seen = _additive(masks[0] if masks else None, query.dtype)
        to_query, to_key, to_value = back(layout.prompts, prompt_key, prompt_value, not masks, seen)
        _put(by_query, layout.prompts, to_query)
        if layout.answers:
            from_tails = back(layout.tails, prompt_key, prompt_value, False, _hidden(layout, query.dtype))
            _put(by_query, layout.tails, from_tails[0])
            to_key, to_value = to_key + from_tails[1], to_value + from_tails[2]
        _put(by_key, layout.prompts, to_key)
        _put(by_value, layout.prompts, to_value)
        for rows in layout.answers:
            own_query, own_key, own_value = back(rows, _rows(key, rows, heads), _rows(value, rows, heads), True, None)
            real = rows.places[rows.mask]
            by_query.index_add_(0, real, _real(own_query, rows))
            _put(by_key, rows, own_key)
            _put(by_value, rows, own_value)
        return by_query, by_key, by_value, None, None, None


def _rows(packed: Tensor, rows: Rows, heads: int) -> Tensor:
    """[rows, heads, longest, width] of [L, heads or fewer, width]; fewer are repeated."""
    laid = laid_out(packed, rows).transpose(1, 2)
    return laid if laid.shape[1] == heads else laid.repeat_interleave(heads // laid.shape[1], 1)


def _real(cells: Tensor, rows: Rows) -> Tensor:
    """[tokens, heads, ...] of [rows, heads, longest, ...] without the padded ones, in the order of their places."""
    return cells.transpose(1, 2).flatten(0, 1).index_select(0, rows.mask.flatten().nonzero().squeeze(1))


def _place(found: Tensor, normaliser: Tensor, rows: Rows, result: Tensor, weight: Tensor) -> None:
    real = rows.places[rows.mask]
    found.index_copy_(0, real, _real(result, rows))
    normaliser.index_copy_(0, real, _real(weight, rows))


def _put(packed: Tensor, rows: Rows, cells: Tensor) -> None:
    """Write rows into the packed sequence; of repeated heads the sum."""
    given = _real(cells, rows)
    summed = given if given.shape[1] == packed.shape[1] else given.unflatten(1, (packed.shape[1], -1)).sum(2)
    packed.index_copy_(0, rows.places[rows.mask], summed)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What is not seen as minus infinity."""
    return None if mask is None else torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


def _hidden(layout: Layout, dtype: torch.dtype) -> Tensor | None:
    """[P, 1, 1, longest] minus infinity where a prompt is padded; None where none is."""
    real = layout.prompts.mask
    return None if bool(real.all()) else _additive(real[:, None, None], dtype)
