"""What a run keeps for people to read: greedy answers along the way, and some groups of its rollouts, with pictures.

Owns what stands in samples.jsonl and rollouts.jsonl (docs/data.md) and what bounds them: how many rollouts, how much
of a text, how large a picture. Everything is chosen by number alone, so that a resumed run keeps the same.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from PIL import Image as Pillow
from torch import Tensor

from sightline.build.loading import Row
from sightline.config import Recipe
from sightline.journal import Journal
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.sampler import SamplingParams, sample
from sightline.progress import each
from sightline.records import Completion, Image, Prompt
from sightline.rewards.contract import Judged
from sightline.train.feeds import imitated
from sightline.train.roles import Judge
from sightline.train.rollouts import Answers, RolloutFeed

SAMPLE_TOKENS = 128
FIRST_ROLLOUTS = 3
"""Rollouts of which groups are kept, whatever the length of the run."""
MOST_ROLLOUTS = 24
"""Rollouts of which groups are kept, in all."""
MOST_ANSWERS = 16
"""Answers that are kept of a group."""
MOST_PARTS = 32
"""Parts of a reward that are kept."""
MOST_PICTURES = 4
"""Pictures that are kept of a prompt."""
TEXT_LENGTH = 2000
"""Characters that are kept of a text."""
TRUTH_LENGTH = 4000
"""Characters of JSON above which a prompt's truth is left out."""
PICTURE_BYTES = 128 * 2**10
"""Larger files are kept smaller."""
SIDES = (512, 256, 128)
"""Longest sides of a picture that is kept smaller: the first that fits into the bytes."""


@dataclass(slots=True)
class Shown:
    """Rows about prompts and answers, whose pictures go into the run's folder, each once."""

    journal: Journal
    """Of the run."""
    kept: dict[str, str] = field(default_factory=dict)
    """Files of pictures by the hash of their content."""

    def prompt(self, prompt: Prompt, inputs: Inputs) -> dict[str, Any]:
        """What was asked, with pictures by reference, and what is true."""
        row: dict[str, Any] = {"prompt": prompt.id}
        if prompt.task is not None:
            row["task"] = prompt.task
        asked = " ".join(part for part in prompt.messages[-1].content if isinstance(part, str))
        row |= {"asked": asked[:TEXT_LENGTH]}
        row["images"] = [self._image(image, inputs) for image in prompt.images[:MOST_PICTURES]]
        truth = dict(prompt.truth)
        if truth and len(json.dumps(truth, ensure_ascii=False)) <= TRUTH_LENGTH:
            row["truth"] = truth
        return row

    def _image(self, image: Image, inputs: Inputs) -> dict[str, Any]:
        key = inputs.store.key(image)
        if key not in self.kept:
            self.kept[key] = self.journal.picture(*small_picture(inputs.store.read(image), image, inputs))
        size, seen = inputs.sizes(image)
        row = {"file": self.kept[key], "sha256": key, "size": list(size), "seen": list(seen)}
        return row if image.path is None else row | {"path": image.path}


def small_picture(data: bytes, image: Image, inputs: Inputs) -> tuple[bytes, str]:
    """A picture's file as it is, or made smaller until it fits the bound; with the ending of its name."""
    kinds = {b"\x89PNG": "png", b"\xff\xd8\xff\xe0": "jpg", b"\xff\xd8\xff\xe1": "jpg"}
    if len(data) <= PICTURE_BYTES and data[:4] in kinds:
        return data, kinds[data[:4]]
    picture = inputs.store.open(image)
    return next(found for found in (_jpeg(picture, side) for side in SIDES) if len(found) <= PICTURE_BYTES), "jpg"


def _jpeg(picture: Pillow.Image, side: int) -> bytes:
    smaller, held = picture.copy(), io.BytesIO()
    smaller.thumbnail((side, side), Pillow.Resampling.BICUBIC)
    smaller.save(held, "JPEG", quality=85)
    return held.getvalue()


def sample_rows(
    recipe: Recipe, policy: Policy, rows: Sequence[Row], judge: Judge | None, journal: Journal
) -> Callable[[], list[dict[str, Any]]]:
    """What makes the rows of samples.jsonl: greedy answers to some prompts, what their rewards say of them, and
    beside them the answers that their groups prefer."""
    shown = Shown(journal)
    length = recipe.rollout.max_tokens if judge is not None else SAMPLE_TOKENS
    params = SamplingParams(temperature=0.0, max_tokens=length)

    def made() -> list[dict[str, Any]]:
        found = []
        for group, inputs in each(rows, "answering prompt", len(rows)):
            drawn = sample(policy, [inputs.prompt(group.prompt)], num=1, params=params, ends=inputs.ends)
            [answer] = drawn[0]
            row = shown.prompt(group.prompt, inputs)
            row["answer"] = inputs.text(answer.token_ids)
            row["preferred"] = "".join(group.completions[i].text for i in imitated(group)[:1])
            if judge is not None:
                said = Completion(text=row["answer"], token_ids=answer.token_ids, policy_step=None)
                [[judged]] = judge([group.prompt], [(said,)], progress=1.0)
                row |= _reward(judged)
            found.append(row)
        return found

    return made


def rollout_rows(
    recipe: Recipe, feed: RolloutFeed, rows: Sequence[Row], num_rollouts: int, journal: Journal
) -> Callable[[], list[dict[str, Any]]]:
    """What makes the rows of rollouts.jsonl: the first groups of a rollout, of the rollouts that are kept."""
    shown, wanted, num_groups = Shown(journal), shown_rollouts(num_rollouts), recipe.rollout.samples

    def made() -> list[dict[str, Any]]:
        begun = feed.begun()
        if begun is None or begun.number not in wanted:
            return []
        advantages = mean_advantages(begun.batch.columns.get("advantages"), begun.batch.mask)
        found, first = [], 0
        for answers in begun.groups[:num_groups]:
            prompt, inputs = rows[answers.row][0].prompt, rows[answers.row][1]
            num = len(answers.completions)
            credit = None if advantages is None else advantages[first : first + num]
            found.append(
                {"rollout": begun.number, **shown.prompt(prompt, inputs), "answers": _answers(answers, credit)}
            )
            first += num
        return found

    return made


def shown_rollouts(num_rollouts: int) -> frozenset[int]:
    """Numbers, from 1, of the rollouts of which groups are kept: the first ones, then evenly to the last."""
    first = min(FIRST_ROLLOUTS, num_rollouts)
    num_more = min(MOST_ROLLOUTS, num_rollouts) - first
    rest = num_rollouts - first
    return frozenset(range(1, first + 1)) | {first + -(-rest * k // num_more) for k in range(1, num_more + 1)}


def mean_advantages(advantages: Tensor | None, mask: Tensor) -> list[float] | None:
    """One advantage for each answer: of several over its tokens, their mean."""
    if advantages is None or advantages.dim() == 1:
        return None if advantages is None else advantages.tolist()
    return ((advantages * mask).sum(1) / mask.sum(1).clamp(min=1)).tolist()


def _answers(answers: Answers, advantages: Sequence[float] | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, (completion, judged) in enumerate(zip(answers.completions, answers.judged, strict=True)):
        if number == MOST_ANSWERS:
            break
        row: dict[str, Any] = {"text": completion.text[:TEXT_LENGTH], **_reward(judged)}
        row["advantage"] = None if advantages is None else round(advantages[number], 6)
        row |= {"length": len(completion.token_ids or ()), "finish_reason": completion.finish_reason}
        found.append(row)
    return found


def _reward(judged: Judged) -> Mapping[str, Any]:
    said = {} if judged.problem is None else {"problem": judged.problem[:TEXT_LENGTH]}
    return {"reward": judged.value, "parts": dict(islice(judged.parts.items(), MOST_PARTS))} | said
