"""Attention as a plan: one function is registered with transformers, and a plan says who attends to whom.

`TreePlan` is the packed tree, split in two: prompts see themselves, answers see their prompt and themselves, so no
L x L mask exists. The sampler brings plans of its own for prefill and decoding. No model is rewritten. Blocks of a
prompt that see each other both ways come with the layout, windows of a layer with the plan.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedConfig

from sightline.models.layout import Layout, Rows, laid_out
from sightline.models.tree_attention import TreeAttention

PLANNED = "sightline_plan"
WRITTEN_OUT_ELEMENTS = 2**25
WRITTEN_OUT_DTYPES = (torch.bfloat16, torch.float16)
CAUSAL_BLOCK = 128
"""Queries of a causal row that are worked on together; keys behind the last of them are left out."""
Windows = tuple[int | None, ...]


class AttentionPlan(Protocol):
    """Who attends to whom in one packed sequence of L tokens."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Query, key and value are [L, heads, width] (key and value may have fewer heads); so is the result."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePlan:
    """Prompts see themselves; each answer sees its prompt and itself. Prompt keys are computed once for all."""

    layout: Layout
    """Where everything lies."""
    windows: Windows = ()
    """Of each layer how many tokens it sees, itself included, None for all; empty where every layer sees all."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See AttentionPlan."""
        prompts, window = self.layout.prompts, window_of(self.windows, layer)
        if window is None and query.device.type == "cpu" and _in_float32(query, key, value):
            return TreeAttention.apply(query, key, value, self.layout, prompt_mask(self.layout, None), scaling)
        prompt_key, prompt_value = laid_out(key, prompts), laid_out(value, prompts)
        prompt_query, mask = laid_out(query, prompts), prompt_mask(self.layout, window)
        rows = [softmax_rows(prompt_query, prompt_key, prompt_value, mask, scaling).flatten(0, 1)]
        for answers in self.layout.answers:
            seen_key = torch.cat([prompt_key.index_select(0, answers.prompt), laid_out(key, answers)], 1)
            seen_value = torch.cat([prompt_value.index_select(0, answers.prompt), laid_out(value, answers)], 1)
            mask = _answer_mask(prompts, answers, window)
            rows.append(softmax_rows(laid_out(query, answers), seen_key, seen_value, mask, scaling).flatten(0, 1))
        return torch.cat(rows).index_select(0, self.layout.gather)


def _in_float32(*given: Tensor) -> bool:
    """Whether the products are to be those of float32 on CPU."""
    return all(x.dtype == torch.float32 for x in given) and not torch.is_autocast_enabled("cpu")


def tree_rectangles(layout: Layout) -> list[tuple[int, int, int]]:
    """(rows, queries, keys) of every product that a TreePlan of plainly causal prompts forms on CPU, for counting."""
    number, longest = layout.prompts.places.shape
    found = [(number, end - start, end) for start, end in _causal_blocks(longest)]
    for answers in layout.answers:
        rows, tokens = answers.places.shape
        found.append((rows, tokens, longest + tokens))
    return found


def windows_of(text: PreTrainedConfig) -> Windows:
    """The windows of a text model's layers, from its config; empty where every layer sees all."""
    kinds = text.to_dict().get("layer_types") or []
    windows = tuple(int(text.sliding_window) if kind == "sliding_attention" else None for kind in kinds)
    return windows if any(window is not None for window in windows) else ()


def window_of(windows: Windows, layer: int) -> int | None:
    """How many tokens this layer sees; None for all."""
    return windows[layer] if windows else None


def prompt_mask(layout: Layout, window: int | None) -> Tensor | None:
    """[P, 1, longest, longest] what a prompt's tokens see of it: the past and their own block, within the window.

    None where that is the past and no more. A padded token sees itself, so that no row is empty.
    """
    real = layout.prompts.mask
    steps = torch.arange(real.shape[1], device=real.device)
    back = steps[:, None] - steps[None, :]
    if window is not None and window >= len(steps):
        window = None
    if layout.joined is None and window is None:
        return None
    seen = (back >= 0)[None]
    if layout.joined is not None:
        block = torch.where(real, layout.joined[layout.prompts.places], -1)
        seen = seen | ((block[:, :, None] == block[:, None, :]) & (block >= 0)[:, :, None])
    if window is not None:
        seen = seen & (back < window)[None]
    return (seen | (back == 0)[None]).expand(len(real), -1, -1)[:, None]


@contextmanager
def attention_of(config: PreTrainedConfig, name: str | None) -> Iterator[None]:
    """Let the language model of this config attend by this implementation, within the block."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def attention_again(
    config: PreTrainedConfig,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a checkpointed layer, forward and recomputed.

    The backward pass runs the layer again long after the block of `attention_of` has ended, and must find the
    attention that the forward pass had.
    """
    return nullcontext(), attention_of(config, config._attn_implementation)


def _attend_by_plan(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: AttentionPlan,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """The signature of transformers' attention functions: tensors are [1, heads, L, width], the mask is not used.

    Dropout breaks the equality with the plain twin; soft caps and sinks (`s_aux`) are not covered. Models that have
    them are refused when they are loaded.
    """
    assert dropout == 0.0
    assert others.get("softcap") is None
    assert others.get("s_aux") is None
    assert query.shape[0] == 1
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    return plan.attend(int(module.layer_idx), query, key, value, scaling)[None], None  # type: ignore[arg-type]


def softmax_rows(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Rows of [batch, tokens, heads, width]; without a mask each token sees itself and what came before."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    small = query.shape[:3].numel() * key.shape[2] <= WRITTEN_OUT_ELEMENTS
    if query.device.type == "cpu" and query.dtype in WRITTEN_OUT_DTYPES and small:
        return _written_out(query, key, value, mask, scaling).transpose(1, 2)
    out = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2)


def _written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Attention as two matrix products with a softmax in float32 between; causal rows in blocks of queries.

    On CPU in bfloat16 the fused kernel's backward pass is up to ten times slower than this (docs/log.md); in float32
    it is the faster one.
    """
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is not None:
        return _products(query, key, value, mask)
    length = query.shape[2]
    causal = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()[None, None]
    return torch.cat(
        [
            _products(query[:, :, i:j], key[:, :, :j], value[:, :, :j], causal[..., i:j, :j])
            for i, j in _causal_blocks(length)
        ],
        2,
    )


def _products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    num, heads, length, width = query.shape
    kv_heads, num_keys = key.shape[1], key.shape[2]
    scores = (query.reshape(num, kv_heads, -1, width) @ key.transpose(-1, -2)).view(num, kv_heads, -1, length, num_keys)
    weights = scores.float().masked_fill(~mask[:, :, None], float("-inf")).softmax(-1).to(value.dtype)
    return (weights.view(num, kv_heads, -1, num_keys) @ value).view(num, heads, length, width)


def _causal_blocks(length: int) -> list[tuple[int, int]]:
    """First query and one behind the last of each block; of nearly equal size."""
    number = -(-length // CAUSAL_BLOCK)
    edges = [length * i // number for i in range(number + 1)] if number else [0, 0]
    return list(pairwise(edges))


def _answer_mask(prompts: Rows, answers: Rows, window: int | None) -> Tensor:
    """[rows, 1, T, P + T]: all of the prompt, and of the answer itself what came before, within the window."""
    longest = answers.mask.shape[1]
    prompt = prompts.mask[answers.prompt][:, None, :].expand(-1, longest, -1)
    causal = torch.ones(longest, longest, dtype=torch.bool, device=prompt.device).tril()
    if window is not None:
        steps = torch.arange(longest, device=prompt.device)
        places = torch.arange(prompt.shape[2], device=prompt.device)
        back = prompts.mask.sum(1)[answers.prompt][:, None, None] + steps[:, None] - places[None, :]
        prompt = prompt & (back < window)
        causal = causal & (steps[:, None] - steps[None, :] < window)
    return torch.cat([prompt, causal[None].expand(len(prompt), -1, -1)], 2)[:, None]


AttentionInterface.register(PLANNED, _attend_by_plan)
