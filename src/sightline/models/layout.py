"""The packed tree: each prompt once, its answers after it, everything in one flat sequence without padding.

Owns where each token lies, what it may attend to, and which place predicts which answer token. Pure index
arithmetic: knows nothing of models. The last token of an answer is predicted but never read, so it is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.batch import Batch


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
    """[L] position of each token in its own conversation: answers restart behind their prompt."""
    prompts: Rows
    """All prompts."""
    answers: tuple[Rows, ...]
    """All answers that are read at all, sorted into buckets of similar length, so that padding stays small."""
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
            prompts=self.prompts.to(device),
            answers=tuple(rows.to(device) for rows in self.answers),
            predicting=self.predicting.to(device),
            gather=self.gather.to(device),
            images=tuple((key, places.to(device)) for key, places in self.images),
        )


def pack(batch: Batch, *, image_token: int) -> Layout:
    """The packed layout of a batch; raises when a prompt's placeholders do not match its images."""
    prompt_rows, answer_rows = _token_rows(batch)
    starts, answer_starts = _starts(batch, prompt_rows, answer_rows)
    prompts = _rows(starts, [len(row) for row in prompt_rows], torch.arange(len(starts)))
    read = torch.as_tensor([len(row) for row in answer_rows], dtype=torch.long)
    begins = torch.as_tensor(answer_starts, dtype=torch.long)
    buckets = [(read > low) & (read <= 2 * low) for low in _halves(int(read.max()) if len(read) else 0)]
    answers = tuple(_rows(begins[b].tolist(), read[b].tolist(), batch.group[b]) for b in buckets if bool(b.any()))
    prompt_lengths = prompts.mask.sum(1)
    tokens = torch.empty(int(prompt_lengths.sum() + read.sum()), dtype=torch.long)
    for start, row in zip((*starts, *answer_starts), (*prompt_rows, *answer_rows), strict=True):
        tokens[start : start + len(row)] = torch.as_tensor(row, dtype=torch.long)
    positions, gather, num_cells = torch.empty_like(tokens), torch.empty_like(tokens), 0
    for rows, offset in (
        (prompts, torch.zeros(len(starts), dtype=torch.long)),
        *((r, prompt_lengths[r.prompt]) for r in answers),
    ):
        real = rows.places[rows.mask]
        positions[real] = (offset[:, None] + torch.arange(rows.places.shape[1]))[rows.mask]
        gather[real] = (num_cells + torch.arange(rows.places.numel()).view_as(rows.places))[rows.mask]
        num_cells += rows.places.numel()
    last = (torch.as_tensor(starts, dtype=torch.long) + prompt_lengths - 1)[batch.group]
    behind = begins[:, None] + torch.arange(max(0, batch.tokens.shape[1] - 1))
    behind = torch.where(torch.arange(behind.shape[1])[None] < read[:, None], behind, 0)
    return Layout(
        tokens=tokens,
        positions=positions,
        prompts=prompts,
        answers=answers,
        predicting=torch.cat([last[:, None], behind], 1)[:, : batch.tokens.shape[1]],
        gather=gather,
        images=tuple(_image_places(batch, starts, image_token)),
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
