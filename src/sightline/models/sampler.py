"""Sampling in process: each prompt runs once, however many answers; images come from the policy's own features.

Every answer has a random stream of its own, seeded by (seed, prompt id, number), so an answer does not depend on
what else is in the batch. Log-probabilities are those of the tempered, untruncated distribution without media
tokens, as in training. Knows nothing of rewards.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sightline.batch import PromptTokens, make_batch
from sightline.models.arithmetic import dtype_name, one_thread_below
from sightline.models.attention import Windows, prompt_mask, softmax_rows, window_of
from sightline.models.forward import Policy
from sightline.models.layout import Layout
from sightline.models.products import scores_in_float32
from sightline.progress import each, phase

MASKED = -1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How answers are drawn."""

    temperature: float = 1.0
    """0 takes the most probable token."""
    max_tokens: int = 64
    """Answers are cut here, with finish reason "length"."""
    seed: int = 0
    """With prompt id and answer number, the seed of an answer."""
    stop: tuple[str, ...] = ()
    """An answer ends, with finish reason "stop", at the token that completes one of these texts."""
    top_k: int = 0
    """Draw from this many most probable tokens; 0 for all. This and the next two are for evaluation: log-probs stay
    those of the whole distribution, so reinforcement learning refuses them."""
    top_p: float = 1.0
    """Draw from the most probable tokens that together hold this much probability."""
    min_p: float = 0.0
    """Draw from tokens at least this probable, relative to the most probable one."""

    @property
    def truncates(self) -> bool:
        """Whether answers are drawn from less than the whole distribution."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One answer as it was drawn."""

    token_ids: tuple[int, ...]
    """Tokens, the one that ended it included when it was reached."""
    logprobs: tuple[float, ...]
    """Log-probability of each under the distribution that it was drawn from."""
    finish_reason: str
    """"stop" or "length"."""


@dataclass(slots=True)
class _Cache:
    """Keys and values per layer: of P prompts, and of G answers each up to the current token."""

    layout: Layout
    """Of the prompts alone."""
    max_tokens: int
    """Most tokens of an answer."""
    group_size: int
    """G."""
    windows: Windows
    """Of each layer how many tokens it sees; empty where every layer sees all."""
    now: int = 0
    """Tokens of each answer that are in the cache."""
    prompt: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Layer -> keys and values [P, heads, longest prompt, width]."""
    own: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Layer -> keys and values [P, heads, G, max tokens, width]."""
    hidden: Tensor | None = None
    """[P, longest prompt] True where padded."""
    padded: bool = False
    """Whether any place is."""

    def unseen(self, window: int | None) -> Tensor | None:
        """[P, longest prompt] what the current token does not see of its prompt; None where it sees all."""
        assert self.hidden is not None
        if window is None:
            return self.hidden if self.padded else None
        steps = torch.arange(self.hidden.shape[1], device=self.hidden.device)
        back = (~self.hidden).sum(1, keepdim=True) + self.now - steps
        return self.hidden | (back >= window)


@dataclass(frozen=True, slots=True)
class _PrefillPlan:
    """Prompts see themselves; their keys and values are kept."""

    cache: _Cache

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        layout = self.cache.layout
        asked, kept_key, kept_value = (x[layout.prompts.places] for x in (query, key, value))
        self.cache.prompt[layer] = (kept_key.transpose(1, 2), kept_value.transpose(1, 2))
        mask = prompt_mask(layout, window_of(self.cache.windows, layer))
        return softmax_rows(asked, kept_key, kept_value, mask, scaling).flatten(0, 1)[layout.gather]


@dataclass(frozen=True, slots=True)
class _DecodePlan:
    """One new token of each of P x G answers sees its prompt and its own past."""

    cache: _Cache

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        cache, window = self.cache, window_of(self.cache.windows, layer)
        prompt_key, prompt_value = cache.prompt[layer]
        num_prompts, heads, longest, width = prompt_key.shape
        size, repeat = cache.group_size, query.shape[1] // heads
        own_key, own_value = self._append(layer, key, value, (num_prompts, heads, size, cache.max_tokens, width))
        if window is not None:
            own_key, own_value = own_key[:, -window:], own_value[:, -window:]
        asked = query.view(num_prompts, size, heads, repeat, width) * (width**-0.5 if scaling is None else scaling)
        asked = asked.transpose(1, 2).reshape(num_prompts * heads, size * repeat, width)
        to_prompt = scores_in_float32(asked, prompt_key.flatten(0, 1))
        unseen = cache.unseen(window)
        if unseen is not None:
            to_prompt.masked_fill_(unseen.repeat_interleave(heads, 0)[:, None], MASKED)
        to_own = scores_in_float32(asked.view(-1, repeat, width), own_key).view(*to_prompt.shape[:2], -1)
        weights = torch.cat([to_prompt, to_own], -1).softmax(-1).to(query.dtype)
        on_own = torch.bmm(weights[..., longest:].reshape(len(own_key), repeat, -1), own_value)
        out = torch.baddbmm(on_own.view_as(asked), weights[..., :longest], prompt_value.flatten(0, 1))
        return out.view(num_prompts, heads, size, repeat, width).transpose(1, 2).reshape(-1, heads * repeat, width)

    def _append(self, layer: int, key: Tensor, value: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Keys and values of every answer up to now, [P x heads x G, tokens, width]; strided, nothing is copied."""
        cache = self.cache
        if layer not in cache.own:
            cache.own[layer] = (key.new_zeros(shape), value.new_zeros(shape))
        for kept, new in zip(cache.own[layer], (key, value), strict=True):
            kept[:, :, :, cache.now] = new.view(shape[0], shape[2], shape[1], shape[4]).transpose(1, 2)
        own_key, own_value = (kept.flatten(0, 2)[:, : cache.now + 1] for kept in cache.own[layer])
        return own_key, own_value


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[PromptTokens],
    *,
    num: int,
    params: SamplingParams,
    ends: Collection[int],
    text: Callable[[Sequence[int]], str] | None = None,
) -> list[list[Sampled]]:
    """`num` answers for each prompt, which end at any of the tokens `ends`; `text` decodes tokens, for stop texts."""
    if params.stop and text is None:
        raise ValueError("stop texts need the model's decoder; pass text=inputs.text")
    if not prompts:
        return []
    with policy.precision():
        with phase(f"reading {len(prompts):,} prompts"):
            cache, states = _prefill(policy, prompts, num=num, max_tokens=params.max_tokens)
        draws = _Draws(prompts, num, params, ends, text)
        with _threads(decoding_threads(policy, len(prompts) * num)):
            return _decode(policy, cache, states, draws)


def decoding_threads(policy: Policy, num_answers: int) -> int:
    """Threads that decode so many answers: one where a layer's work is too small to be shared, else torch's number."""
    language_model = policy.family.language_model(policy.model)
    table = language_model.get_input_embeddings()  # type: ignore[operator] - nn.Module types methods as Tensors
    if table.weight.device.type != "cpu":
        return torch.get_num_threads()
    size = sum(p.numel() for p in language_model.parameters()) - table.weight.numel()
    work = 2 * num_answers * size / language_model.config.num_hidden_layers  # type: ignore[union-attr, operator]
    below, threads = policy.one_thread_below, torch.get_num_threads()
    if below is None:
        below = one_thread_below(dtype_name(policy.autocast), threads)
    return 1 if work < below else threads


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Draws:
    """What was drawn so far, and the uniform numbers that decide what is drawn next."""

    def __init__(
        self,
        prompts: Sequence[PromptTokens],
        num: int,
        params: SamplingParams,
        ends: Collection[int],
        text: Callable[[Sequence[int]], str] | None,
    ) -> None:
        self.params = params
        self.ends = torch.as_tensor(sorted(ends), dtype=torch.long)
        self.text = text
        self.rows = torch.arange(len(prompts) * num).view(len(prompts), num)
        self.tokens = torch.zeros(len(prompts) * num, params.max_tokens, dtype=torch.long)
        self.logprobs = torch.zeros(len(prompts) * num, params.max_tokens)
        self.lengths = torch.zeros(len(prompts) * num, dtype=torch.long)
        self.ended = torch.zeros(len(prompts) * num, dtype=torch.bool)
        uniform = np.zeros((len(prompts) * num, params.max_tokens))
        if params.temperature > 0:
            for p, prompt in enumerate(prompts):
                for n in range(num):
                    uniform[p * num + n] = np.random.default_rng(answer_seed(params.seed, prompt.id, n)).random(
                        params.max_tokens
                    )
        self.uniform = torch.from_numpy(uniform)

    def choose(self, logits: Tensor, rows: Tensor, now: int) -> tuple[Tensor, Tensor]:
        """Next token and its log-probability for each of these rows."""
        logprobs = logits.log_softmax(-1)
        if self.params.temperature == 0:
            token = logits.argmax(-1)
        else:
            cumulative = self._kept(logprobs).double().exp().cumsum(-1)
            wanted = self.uniform[rows, now].to(logits.device) * cumulative[:, -1]
            token = (
                torch.searchsorted(cumulative, wanted[:, None], right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
            )
        return token, logprobs.gather(-1, token[:, None]).squeeze(-1)

    def take(self, token: Tensor, logprob: Tensor, rows: Tensor, now: int) -> None:
        """Keep what was drawn for the rows that still go on, and see which of them end with it."""
        live = ~self.ended[rows]
        self.tokens[rows[live], now], self.logprobs[rows[live], now] = token[live], logprob[live]
        self.lengths[rows[live]] = now + 1
        self.ended[rows] |= torch.isin(token, self.ends)
        if self.params.stop and self.text is not None:
            for row in rows[~self.ended[rows]].tolist():
                said = self.text(self.tokens[row, : now + 1].tolist())
                self.ended[row] = any(stop in said for stop in self.params.stop)

    def _kept(self, logprobs: Tensor) -> Tensor:
        """Log-probabilities with what truncation leaves out at minus infinity."""
        params = self.params
        if not params.truncates:
            return logprobs
        out = torch.zeros_like(logprobs, dtype=torch.bool)
        if params.min_p > 0:
            out |= logprobs < logprobs.amax(-1, keepdim=True) + math.log(params.min_p)
        if params.top_k > 0:
            out |= logprobs < logprobs.topk(min(params.top_k, logprobs.shape[-1])).values[:, -1:]
        if params.top_p < 1:
            ordered, order = logprobs.sort(-1, descending=True)
            before = ordered.exp().cumsum(-1) - ordered.exp()
            out |= torch.zeros_like(out).scatter(-1, order, before >= params.top_p)
        return logprobs.masked_fill(out, float("-inf"))


def answer_seed(seed: int, prompt_id: str, number: int) -> int:
    """Seed of one answer."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt_id}/{number}".encode()).digest()[:8], "little")


def _prefill(policy: Policy, prompts: Sequence[PromptTokens], *, num: int, max_tokens: int) -> tuple[_Cache, Tensor]:
    """Cache of the prompts, and the hidden state behind each prompt [P, width]."""
    batch = make_batch(prompts, [[] for _ in prompts])
    layout = policy.lay_out(batch)
    cache = _Cache(layout, max_tokens, num, policy.windows)
    states = policy.run(policy.embed(layout, batch), layout.positions, _PrefillPlan(cache))
    cache.hidden = ~layout.prompts.mask
    cache.padded = bool(cache.hidden.any())
    last = layout.prompts.places.gather(1, layout.prompts.mask.sum(1, keepdim=True) - 1).squeeze(1)
    return cache, states[last]


def _decode(policy: Policy, cache: _Cache, states: Tensor, draws: _Draws) -> list[list[Sampled]]:
    rows, num = draws.rows, draws.rows.shape[1]
    prompts = torch.arange(len(draws.rows))
    states = states[:, None].expand(-1, num, -1)
    plan = _DecodePlan(cache)
    for now in each(range(draws.params.max_tokens), "token", draws.params.max_tokens):
        token = _draw(policy, states.flatten(0, 1), draws, rows.flatten(), now)
        if now + 1 == draws.params.max_tokens or bool(draws.ended[rows].all()):
            break
        rows, prompts, token = _leave(cache, draws, rows, prompts, token.view(rows.shape))
        table = policy.family.language_model(policy.model).get_input_embeddings()  # type: ignore[operator]
        behind = cache.layout.next_position[prompts.to(cache.layout.next_position.device)] + now
        positions = behind[:, None].expand(rows.shape).flatten()
        states = policy.run(table(token.flatten()), positions, plan).view(*rows.shape, -1)
        cache.now += 1
    return _collect(draws, num)


def _draw(policy: Policy, states: Tensor, draws: _Draws, rows: Tensor, now: int) -> Tensor:
    token, logprob = draws.choose(policy.logits(states, draws.params.temperature or 1.0), rows, now)
    draws.take(token.cpu(), logprob.float().cpu(), rows, now)
    return token


def _leave(cache: _Cache, draws: _Draws, rows: Tensor, prompts: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Drop prompts whose answers have all ended and slots that no prompt needs, when that saves a quarter."""
    live = ~draws.ended[rows]
    keep = live.any(1)
    size = int(live.sum(1).max())
    if int(keep.sum()) * size > 0.75 * rows.numel():
        return rows, prompts, token
    slots = torch.argsort(live.int(), dim=1, descending=True, stable=True)[:, :size][keep]
    rows, token = rows[keep].gather(1, slots), token[keep].gather(1, slots.to(token.device))
    for layer, (key, value) in cache.prompt.items():
        cache.prompt[layer] = (key[keep], value[keep])
    for layer, (key, value) in cache.own.items():
        index = slots.to(key.device)[:, None, :, None, None].expand(-1, key.shape[1], -1, *key.shape[3:])
        cache.own[layer] = (key[keep].gather(2, index), value[keep].gather(2, index))
    assert cache.hidden is not None
    cache.hidden, cache.group_size = cache.hidden[keep], size
    return rows, prompts[keep], token


def _collect(draws: _Draws, num: int) -> list[list[Sampled]]:
    found = [
        Sampled(
            token_ids=tuple(draws.tokens[row, : draws.lengths[row]].tolist()),
            logprobs=tuple(draws.logprobs[row, : draws.lengths[row]].tolist()),
            finish_reason="stop" if draws.ended[row] else "length",
        )
        for row in range(len(draws.tokens))
    ]
    return [found[start : start + num] for start in range(0, len(found), num)]
