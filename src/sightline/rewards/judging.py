"""From a recipe's list of rewards to one judging function, made anew in every process that judges."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.pictures import MAX_PIXELS, open_picture
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


def make_judge(
    entries: Sequence[Mapping[str, Any]], *, max_image_pixels: int = MAX_PIXELS
) -> Callable[[Call], Score | None]:
    """A function that judges one call with the rewards of these entries, which see the picture as the model does."""
    composed = compose(entries)

    def opened(picture: bytes | str) -> Image.Image:
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        return open_picture(data, max_pixels=max_image_pixels)

    def judge(call: Call) -> Score | None:
        picture = call.picture
        context = replace(call.context, load_image=None if picture is None else lambda: opened(picture))
        return composed.score(call.completion, context, options=call.options)

    return judge
