"""What the doctor finds in boxes: those of truth and of answers, held to the picture and to each other, and drawn.

Truth has pixels of the picture as stored. An answer's boxes are in the frame that the run's reward reads them in; where
no reward reads boxes, in the frame that fits the truth best.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.build.loading import Row
from sightline.build.run_judge import context_of
from sightline.records import Completion
from sightline.reports.doctor_page import Line, Shown
from sightline.rewards.boxes import SPACES, Box, LabelledBox, Space, read_boxes, to_frame, true_boxes
from sightline.rewards.frames import better_frame, mean_overlaps

NAME = "boxes"
OUTSIDE_SHARE = 0.2
"""Share of boxes that may leave their picture."""
SLACK = 1.02
"""How far, in picture sides, a box may reach and still be inside."""
LARGEST_SIDE = 720
"""Pictures on the page are shrunk to this."""
TINY = 2.0
"""A picture's boxes that all end within so many pixels are shares of it, not pixels."""
IN_WORDS: Mapping[Space, str] = {
    "seen": "pixels of the picture as the model sees it",
    "original": "pixels of the picture as stored",
    "thousand": "thousandths of the picture",
    "unit": "shares of the picture",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A row with an answer to it."""

    row: Row
    """The prompt with its reader."""
    completion: Completion
    """The answer."""
    whose: str
    """Where it is from."""


def box_line(answered: Sequence[Answered], frames: Mapping[str, Space]) -> Line:
    """The line about boxes: truth inside its picture, answers inside theirs, and in the frame that is read."""
    cure = "write truth boxes as [x1, y1, x2, y2] in pixels of the picture as stored"
    try:
        problem = _truth_problem(answered)
    except ValueError as error:
        return Line(name=NAME, state="fail", said=str(error), cure=cure)
    if problem is not None:
        return Line(name=NAME, state="fail", said=problem, cure=cure)
    calls = [(one.completion, context_of(one.row[0].prompt, one.row[1], progress=0.0)) for one in answered]
    num_boxes = sum(len(read_boxes(one.completion.text).boxes) for one in answered)
    for name, space in frames.items():
        wrong = better_frame(calls, space)
        if wrong is not None:
            said, _, cure = wrong.partition("; ")
            return Line(name=NAME, state="fail", said=f"reward {name}: {said}", cure=cure)
        outside = _outside(answered, space)
        if outside > OUTSIDE_SHARE:
            said = f"{outside:.0%} of the answers' boxes leave the picture when reward {name} reads them as {space} "
            said += f"({IN_WORDS[space]})"
            return Line(
                name=NAME, state="fail", said=said, cure=f"set its option space to another of {', '.join(SPACES)}"
            )
    overlaps = mean_overlaps(calls)
    if not num_boxes and not overlaps:
        return Line(name=NAME, state="skip", said="neither truth nor answers have boxes")
    if not num_boxes:
        return Line(name=NAME, state="pass", said="the truth's boxes lie in their pictures; no answer has any")
    space = frame_of(answered, frames)
    if not overlaps:
        return Line(
            name=NAME, state="pass", said=f"{num_boxes} boxes in answers, read as {space}; no truth to hold them to"
        )
    said = f"{num_boxes} boxes in answers overlap the true ones by {overlaps[space]:.2f} on average, read as {space} "
    return Line(name=NAME, state="pass", said=f"{said}({IN_WORDS[space]})")


def frame_of(answered: Sequence[Answered], frames: Mapping[str, Space]) -> Space:
    """The frame in which the run reads boxes; without one, that which fits the truth best, at a tie the first."""
    if frames:
        return next(iter(frames.values()))
    calls = [(one.completion, context_of(one.row[0].prompt, one.row[1], progress=0.0)) for one in answered]
    found = mean_overlaps(calls)
    return max(SPACES, key=lambda name: found[name]) if found else "seen"


def shown(answered: Answered, space: Space, facts: Mapping[str, str]) -> Shown:
    """The row as the page shows it: its first picture, its question, its answer, and boxes in the picture's pixels."""
    group, inputs = answered.row
    prompt = group.prompt
    picture = inputs.store.open(prompt.images[0])
    stored = picture.size
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    scale = (picture.size[0] / stored[0], picture.size[1] / stored[1])
    held = io.BytesIO()
    picture.convert("RGB").save(held, "PNG")
    original, seen = inputs.sizes(prompt.images[0])
    said = read_boxes(answered.completion.text).boxes
    moved = to_frame([box.box for box in said], space, image_size=original, seen_size=seen)
    return Shown(
        prompt=prompt.id,
        asked=" ".join(part for part in prompt.messages[-1].content if isinstance(part, str)),
        answer=answered.completion.text,
        whose=answered.whose,
        picture=held.getvalue(),
        width=picture.size[0],
        height=picture.size[1],
        facts={"stored": f"{original[0]} x {original[1]}", "seen by the model": f"{seen[0]} x {seen[1]}", **facts},
        true_boxes=tuple((box.label, _scaled(box.box, scale)) for box in _true_boxes(prompt.truth)),
        said_boxes=tuple((box.label, _scaled(at, scale)) for box, at in zip(said, moved, strict=True)),
    )


def _true_boxes(truth: Mapping[str, Any]) -> list[LabelledBox]:
    """The truth's boxes; none where it has none or is malformed, which the line about boxes says."""
    try:
        return true_boxes(truth) or []
    except ValueError:
        return []


def _truth_problem(answered: Sequence[Answered]) -> str | None:
    """What is wrong with the truth's boxes, if something is."""
    num, outside, example = 0, 0, ""
    for one in answered:
        group, inputs = one.row
        boxes = true_boxes(group.prompt.truth) or []
        if not boxes or not group.prompt.images:
            continue
        width, height = inputs.sizes(group.prompt.images[0])[0]
        num += len(boxes)
        beyond = [box.box for box in boxes if not _inside(box.box, width, height)]
        tiny = max(max(box.box) for box in boxes) <= TINY < min(width, height) / 4
        if beyond or tiny:
            outside += len(boxes) if tiny else len(beyond)
            corners = [round(corner, 2) for corner in (boxes[0].box if tiny else beyond[0])]
            what = "are shares of the picture, not pixels" if tiny else "leave the picture"
            example = example or f"{what}: {corners} on {width} x {height} pixels, prompt {group.prompt.id!r}"
    return f"{outside} of {num} true boxes {example}" if num and outside > OUTSIDE_SHARE * num else None


def _outside(answered: Sequence[Answered], space: Space) -> float:
    """Share of the answers' boxes that leave the picture when read in a frame."""
    num = outside = 0
    for one in answered:
        group, inputs = one.row
        said = read_boxes(one.completion.text).boxes
        if not said or not group.prompt.images:
            continue
        original, seen = inputs.sizes(group.prompt.images[0])
        num += len(said)
        moved = to_frame([box.box for box in said], space, image_size=original, seen_size=seen)
        outside += sum(not _inside(box, *original) for box in moved)
    return outside / num if num else 0.0


def _inside(box: Box, width: float, height: float) -> bool:
    left, top, right, bottom = box
    return min(left, top) >= -0.02 * max(width, height) and right <= SLACK * width and bottom <= SLACK * height


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    return (box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1])
