"""What the engine eats: N answers on their prompts, with named columns; and what an objective gives back.

Knows neither who filled the columns nor which objective reads them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """One image as the model will see it, by content; pixels are made when somebody needs them."""

    key: str
    """Hash of the image's content and of the processor's settings."""
    num_tokens: int
    """Placeholder tokens that it takes in the prompt; equals the number of its features."""
    load: Callable[[], Tensor]
    """Pixels, [channels, height, width] for LLaVA; tiles or patches of it in other families."""
    grid: tuple[int, ...] = ()
    """How the model's family lays it out, where it needs more than the pixels: patches, tiles, or a size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """A prompt as tokens, image placeholders expanded; its images in reading order."""

    id: str
    """Prompt id, for errors and seeds."""
    ids: tuple[int, ...]
    """Token ids; each image takes `num_tokens` placeholders."""
    images: tuple[ImageInput, ...] = ()
    """Images in reading order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """N answers on P prompts.

    Example: two prompts with two answers each have `group` [0, 0, 1, 1], `tokens` [4, T] padded on the right,
    `pairs` [[0, 1], [2, 3]] and perhaps `columns["ref_logprobs"]` [4, T].
    """

    prompts: tuple[PromptTokens, ...]
    """The P prompts."""
    group: Tensor
    """[N] which prompt an answer hangs on; ascending."""
    tokens: Tensor
    """[N, T] answer tokens, end-of-turn included, padded with 0."""
    lengths: Tensor
    """[N] number of tokens of each answer."""
    mask: Tensor
    """[N, T] which tokens are scored; never true beyond the length."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """More about the answers: [N] or [N, T]."""
    pairs: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.long))
    """[M, 2] rows of (chosen, rejected)."""
    pair_columns: Mapping[str, Tensor] = field(default_factory=dict)
    """More about the pairs: [M]."""

    @property
    def num_answers(self) -> int:
        """N."""
        return len(self.group)

    def select(self, prompts: Sequence[int]) -> "Batch":
        """The part of the batch that hangs on these prompts, in this order, trimmed to its longest answer."""
        new_prompt = torch.full((len(self.prompts),), -1, dtype=torch.long)
        new_prompt[torch.as_tensor(prompts, dtype=torch.long)] = torch.arange(len(prompts))
        kept = (new_prompt[self.group] >= 0).nonzero().squeeze(1)
        kept = kept[torch.argsort(new_prompt[self.group[kept]], stable=True)]
        new_row = torch.full((self.num_answers,), -1, dtype=torch.long)
        new_row[kept] = torch.arange(len(kept))
        longest = int(self.lengths[kept].max()) if len(kept) else 0
        pairs = new_row[self.pairs]
        whole = (pairs >= 0).all(1)
        columns = {k: v[kept][:, :longest] if v.dim() > 1 else v[kept] for k, v in self.columns.items()}
        return replace(
            self,
            prompts=tuple(self.prompts[p] for p in prompts),
            group=new_prompt[self.group[kept]],
            tokens=self.tokens[kept][:, :longest],
            lengths=self.lengths[kept],
            mask=self.mask[kept][:, :longest],
            columns=columns,
            pairs=pairs[whole],
            pair_columns={k: v[whole] for k, v in self.pair_columns.items()},
        )

    def with_columns(self, **columns: Tensor) -> "Batch":
        """The same batch with more columns."""
        return replace(self, columns={**self.columns, **columns})


def make_batch(
    prompts: Sequence[PromptTokens],
    answers: Sequence[Sequence[Sequence[int]]],
    *,
    pairs: Sequence[tuple[int, int]] = (),
    pair_columns: Mapping[str, Sequence[float]] | None = None,
) -> Batch:
    """A batch from prompts and, for each, its answers' token ids; `pairs` count rows over all answers."""
    assert len(prompts) == len(answers)
    rows = [tuple(answer) for group in answers for answer in group]
    for prompt, group in zip(prompts, answers, strict=True):
        if any(len(answer) == 0 for answer in group):
            raise ValueError(
                f"prompt {prompt.id!r} has an answer without tokens; an answer ends with its end-of-turn token"
            )
    longest = max((len(row) for row in rows), default=0)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    lengths = torch.as_tensor([len(row) for row in rows], dtype=torch.long)
    return Batch(
        prompts=tuple(prompts),
        group=torch.as_tensor([p for p, group in enumerate(answers) for _ in group], dtype=torch.long),
        tokens=tokens,
        lengths=lengths,
        mask=torch.arange(longest)[None, :] < lengths[:, None],
        pairs=torch.as_tensor(list(pairs), dtype=torch.long).reshape(-1, 2),
        pair_columns={k: torch.as_tensor(list(v), dtype=torch.float32) for k, v in (pair_columns or {}).items()},
    )


def split(batch: Batch, *, token_budget: int) -> list[Batch]:
    """Micro-batches under a budget of packed tokens, in order: of whole groups, and where one group is larger, of its
    answers, each part with the prompt again. Answers of a pair stay together, whatever the budget."""
    answers = torch.zeros(len(batch.prompts), dtype=torch.long).index_add_(0, batch.group, batch.lengths - 1)
    sizes = [len(prompt.ids) + extra for prompt, extra in zip(batch.prompts, answers.tolist(), strict=True)]
    parts: list[list[int]] = []
    used = token_budget + 1
    for prompt, size in enumerate(sizes):
        if used + size > token_budget:
            parts.append([])
            used = 0
        parts[-1].append(prompt)
        used += size
    whole = [batch] if len(parts) == 1 else [batch.select(part) for part in parts]
    return [piece for part in whole for piece in (_cut(part, token_budget) if len(part.prompts) == 1 else [part])]


def read_in_portions(read: Callable[[Batch], Tensor], batch: Batch, *, token_budget: int) -> Tensor:
    """[N, T] on CPU in float32 of what `read` says of every answer token, without gradient, in the portions of `split`.

    They are those of an update with the same budget, so a model that has not moved says bit for bit the same.
    """
    found = torch.zeros(batch.tokens.shape)
    start = 0
    with torch.no_grad():
        for part in split(batch, token_budget=token_budget) if batch.num_answers else []:
            said = read(part).float().cpu()
            found[start : start + part.num_answers, : said.shape[1]] = said
            start += part.num_answers
    return found


def _cut(group: Batch, token_budget: int) -> list[Batch]:
    """The answers of one group in parts under the budget, neighbours together."""
    ends = set(range(1, group.num_answers + 1))
    for first, second in group.pairs.tolist():
        ends -= set(range(min(first, second) + 1, max(first, second) + 1))
    parts: list[tuple[int, int]] = []
    size = token_budget + 1
    for start, end in pairwise((0, *sorted(ends))):
        extra = int((group.lengths[start:end] - 1).sum())
        if size + extra > token_budget:
            parts.append((start, end))
            size = len(group.prompts[0].ids)
        parts[-1] = (parts[-1][0], end)
        size += extra
    return [group] if len(parts) <= 1 else [_rows(group, start, end) for start, end in parts]


def _rows(group: Batch, start: int, end: int) -> Batch:
    """Some neighbouring answers of one group, trimmed to the longest."""
    rows = slice(start, end)
    longest = int(group.lengths[rows].max())
    inside = ((group.pairs >= start) & (group.pairs < end)).all(1)
    return replace(
        group,
        group=group.group[rows],
        tokens=group.tokens[rows, :longest],
        lengths=group.lengths[rows],
        mask=group.mask[rows, :longest],
        columns={k: v[rows, :longest] if v.dim() > 1 else v[rows] for k, v in group.columns.items()},
        pairs=group.pairs[inside] - start,
        pair_columns={k: v[inside] for k, v in group.pair_columns.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a policy says about the answers of a batch; what was not wanted is empty."""

    logprobs: Tensor
    """[N, T] log-probability of each answer token; 0 where the token is not scored, or log-probs were not wanted."""
    entropy: Tensor | None = None
    """[N, T] entropy of the distribution that each token was drawn from."""
    values: Tensor | None = None
    """[N, T] the critic's value before each answer token."""
    ratings: Tensor | None = None
    """[N, H] what a rating head says of each whole answer: overall, then its attributes."""

    def by_name(self) -> dict[str, Tensor]:
        """Those that there are."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an objective gives back for one micro-batch: totals, never means."""

    terms: Mapping[str, Tensor]
    """Name of each loss term -> its total over the micro-batch, with gradient."""
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Name -> (total, count) over the micro-batch, for the log."""
