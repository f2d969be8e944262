"""The packed tree: each prompt once, its answers after it, everything in one flat sequence without padding.

Owns where each token lies, what it may attend to, and which place predicts which answer token. Pure index
arithmetic: knows nothing of models. The last token of an answer is predicted but never read, so it is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens

PerPrompt = Callable[[PromptTokens], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some prompts, or some answers of similar length, as padded rows of places."""

    places: Tensor
    """[rows, longest] place of each token, 0 where padded."""
    mask: Tensor
    """[rows, longest] which of those are real."""
    prompt: Tensor
    """[rows] the prompt that each row is or hangs on."""

    def to(self, device: torch.device) -> "Rows":
        """The same on a device."""
        return Rows(places=self.places.to(device), mask=self.mask.to(device), prompt=self.prompt.to(device))


def laid_out(packed: Tensor, rows: Rows) -> Tensor:
    """[rows, longest, ...] of [L, ...]; selecting whole rows is many times faster backward than indexing."""
    return packed.index_select(0, rows.places.flatten()).unflatten(0, rows.places.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything lies in one packed sequence of L tokens.

    Example: a prompt of 3 tokens with answers of 2 and 1 tokens packs to L = 4 (the last token of each answer
    is not read): places 0-2 the prompt, place 3 the first token of answer 0. Answer 0 is predicted from places
    (2, 3), answer 1 from place 2.
    """

    tokens: Tensor
    """[L] token ids."""
    positions: Tensor
    """[L] position of each token in its own conversation: answers restart behind their prompt. [axes, L] where a
    family counts along several axes."""
    next_position: Tensor
    """[P] position of the first token behind each prompt, the same along all axes."""
    joined: Tensor | None
    """[L] number of the block of prompt tokens that see each other both ways, -1 outside; None where all is causal."""
    prompts: Rows
    """All prompts."""
    answers: tuple[Rows, ...]
    """All answers that are read at all, sorted into buckets of similar length, so that padding stays small."""
    tails: Rows
    """All answer tokens behind each prompt as one row a prompt."""
    predicting: Tensor
    """[N, T] place whose hidden state predicts each answer token; 0 where padded."""
    gather: Tensor
    """[L] index of each token in all rows laid end to end: prompts first, then the buckets."""
    images: tuple[tuple[str, Tensor], ...]
    """Key of each image and the places of its placeholder tokens, in packed order."""

    def to(self, device: torch.device) -> "Layout":
        """The same on a device."""
        return Layout(
            tokens=self.tokens.to(device),
            positions=self.positions.to(device),
            next_position=self.next_position.to(device),
            joined=None if self.joined is None else self.joined.to(device),
            prompts=self.prompts.to(device),
            answers=tuple(rows.to(device) for rows in self.answers),
            tails=self.tails.to(device),
            predicting=self.predicting.to(device),
            gather=self.gather.to(device),
            images=tuple((key, places.to(device)) for key, places in self.images),
        )


def pack(
    batch: Batch, *, image_token: int, positions: PerPrompt | None = None, joined: PerPrompt | None = None
) -> Layout:
    """The packed layout of a batch; raises when a prompt's placeholders do not match its images.

    `positions` and `joined` say of a prompt what the layout then says of all; without them positions count tokens from
    zero, and attention is causal. Answers continue behind the largest position of their prompt.
    """
    prompt_rows, answer_rows = _token_rows(batch)
    starts, answer_starts = _starts(batch, prompt_rows, answer_rows)
    images = tuple(_image_places(batch, starts, image_token))
    prompts = _rows(starts, [len(row) for row in prompt_rows], torch.arange(len(starts)))
    read = torch.as_tensor([len(row) for row in answer_rows], dtype=torch.long)
    begins = torch.as_tensor(answer_starts, dtype=torch.long)
    buckets = [(read > low) & (read <= 2 * low) for low in _halves(int(read.max()) if len(read) else 0)]
    answers = tuple(_rows(begins[b].tolist(), read[b].tolist(), batch.group[b]) for b in buckets if bool(b.any()))
    prompt_lengths = prompts.mask.sum(1)
    behind_each = torch.zeros(len(starts), dtype=torch.long).index_add_(0, batch.group, read)
    tails = _rows(
        (torch.as_tensor(starts, dtype=torch.long) + prompt_lengths).tolist(), behind_each.tolist(), prompts.prompt
    )
    tokens = torch.empty(int(prompt_lengths.sum() + read.sum()), dtype=torch.long)
    for start, row in zip((*starts, *answer_starts), (*prompt_rows, *answer_rows), strict=True):
        tokens[start : start + len(row)] = torch.as_tensor(row, dtype=torch.long)
    gather, num_cells = torch.empty_like(tokens), 0
    for rows in (prompts, *answers):
        real = rows.places[rows.mask]
        gather[real] = (num_cells + torch.arange(rows.places.numel()).view_as(rows.places))[rows.mask]
        num_cells += rows.places.numel()
    given = [torch.arange(len(p.ids)) if positions is None else positions(p) for p in batch.prompts]
    behind_prompts = torch.as_tensor([int(found.max()) + 1 for found in given], dtype=torch.long)
    last = (torch.as_tensor(starts, dtype=torch.long) + prompt_lengths - 1)[batch.group]
    behind = begins[:, None] + torch.arange(max(0, batch.tokens.shape[1] - 1))
    behind = torch.where(torch.arange(behind.shape[1])[None] < read[:, None], behind, 0)
    return Layout(
        tokens=tokens,
        positions=_positions(given, behind_prompts, answers, starts, tokens),
        next_position=behind_prompts,
        joined=None if joined is None else _joined([joined(p) for p in batch.prompts], starts, tokens),
        prompts=prompts,
        answers=answers,
        tails=tails,
        predicting=torch.cat([last[:, None], behind], 1)[:, : batch.tokens.shape[1]],
        gather=gather,
        images=images,
    )


def packed_length(batch: Batch) -> int:
    """Tokens that the language model reads for this batch."""
    return sum(len(p.ids) for p in batch.prompts) + int((batch.lengths - 1).sum())


def _token_rows(batch: Batch) -> tuple[list[Sequence[int]], list[list[int]]]:
    lengths = batch.lengths.tolist()
    return [p.ids for p in batch.prompts], [row[: n - 1] for row, n in zip(batch.tokens.tolist(), lengths, strict=True)]


def _starts(batch: Batch, prompts: list[Sequence[int]], answers: list[list[int]]) -> tuple[list[int], list[int]]:
    """First place of each prompt and of each answer: a prompt, its answers, the next prompt."""
    by_prompt: list[list[int]] = [[] for _ in prompts]
    for answer, prompt in enumerate(batch.group.tolist()):
        by_prompt[prompt].append(answer)
    starts, answer_starts, place = [], [0] * len(answers), 0
    for prompt, row in enumerate(prompts):
        starts.append(place)
        place += len(row)
        for answer in by_prompt[prompt]:
            answer_starts[answer] = place
            place += len(answers[answer])
    return starts, answer_starts


def _rows(starts: Sequence[int], lengths: Sequence[int], prompt: Tensor) -> Rows:
    steps = torch.arange(max(lengths, default=0))
    mask = steps[None, :] < torch.as_tensor(lengths, dtype=torch.long)[:, None]
    places = torch.as_tensor(starts, dtype=torch.long)[:, None] + steps
    return Rows(places=torch.where(mask, places, 0), mask=mask, prompt=prompt)


def _positions(
    prompts: Sequence[Tensor], behind: Tensor, answers: Sequence[Rows], starts: Sequence[int], tokens: Tensor
) -> Tensor:
    """[L] or [axes, L]: what is given of the prompts, and of each answer the count on from there."""
    found = tokens.new_empty(*(prompts[0].shape[:-1] if prompts else ()), len(tokens))
    for start, given in zip(starts, prompts, strict=True):
        found[..., start : start + given.shape[-1]] = given
    for rows in answers:
        counted = behind[rows.prompt][:, None] + torch.arange(rows.places.shape[1])
        found[..., rows.places[rows.mask]] = counted[rows.mask]
    return found


def _joined(prompts: Sequence[Tensor], starts: Sequence[int], tokens: Tensor) -> Tensor:
    """[L] block of each prompt token, counted in each prompt apart; no answer token is in any."""
    found = torch.full_like(tokens, -1)
    for start, given in zip(starts, prompts, strict=True):
        found[start : start + len(given)] = given
    return found


def _halves(longest: int) -> list[float]:
    """Lower edges of the buckets, each half of its upper edge: ..., 16, 8, 4, and all that is shorter."""
    edges, high = [], float(longest)
    while high > 4:
        high /= 2
        edges.append(high)
    return [*edges, *([high / 2**i for i in range(1, 4)] if longest else [])]


def _image_places(batch: Batch, starts: list[int], image_token: int) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for prompt, start in zip(batch.prompts, starts, strict=True):
        places = (torch.as_tensor(prompt.ids) == image_token).nonzero().squeeze(1) + start
        wanted = sum(image.num_tokens for image in prompt.images)
        if len(places) != wanted:
            raise ValueError(
                f"prompt {prompt.id!r} has {len(places)} image placeholder tokens and its {len(prompt.images)} "
                f"image(s) make {wanted} features; they must be equal, so check for text that spells the image token"
            )
        offset = 0
        for image in prompt.images:
            found.append((image.key, places[offset : offset + image.num_tokens]))
            offset += image.num_tokens
    return found
