"""From a recipe's list of rewards to one judging function, made anew in every process that judges."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.registry import find
from sightline.rewards.compose import Composed, Part
from sightline.rewards.contract import Score
from sightline.rewards.library import load_builtin
from sightline.rewards.models import MODEL_REWARDS
from sightline.rewards.pool import Call

FACTORY = "sightline.rewards.judging:make_judge"


def compose(entries: Sequence[Mapping[str, Any]]) -> Composed:
    """The rewards of plain entries, which have the keys of a recipe."""
    load_builtin()
    parts = []
    for entry in entries:
        label = entry.get("label") or str(entry["name"]).rpartition(":")[2]
        clip = entry.get("clip")
        parts.append(
            Part(
                name=label,
                reward=find("reward", entry["name"]),
                weight=entry.get("weight", 1.0),
                clip=None if clip is None else (clip[0], clip[1]),
                gate=entry.get("gate"),
                optional=entry.get("optional", False),
                tasks=tuple(entry.get("tasks", ())),
                at=entry.get("at", "end"),
                given=entry["name"] in MODEL_REWARDS,
                options=entry.get("options", {}),
            )
        )
    return Composed(parts=tuple(parts))


def make_judge(entries: Sequence[Mapping[str, Any]]) -> Callable[[Call], Score | None]:
    """A function that judges one call with the rewards of these entries."""
    composed = compose(entries)

    def judge(call: Call) -> Score | None:
        context = replace(call.context, load_image=None if call.picture is None else lambda: _opened(call.picture))
        return composed.score(call.completion, context, options=call.options)

    return judge


def _opened(picture: bytes | str | None) -> Image.Image:
    assert picture is not None
    return Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else Path(picture)).convert("RGB")
