"""Boxes: reading them from an answer, the frames they are given in, their overlap, and one-to-one matching.

A box is (x1, y1, x2, y2) with exclusive right and bottom edges. Knows nothing of labels' meaning or of images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.fields import RecordError, parse_json
from sightline.registry import did_you_mean

MAX_ANSWER_CHARACTERS = 20_000
FEW_PAIRS = 64
"""Up to here plain Python finds the overlaps faster than numpy is called."""
Box = tuple[float, float, float, float]
Size = tuple[int, int]
Space = Literal["seen", "original", "thousand", "unit"]
"""Frame of coordinates: pixels as the model saw them, pixels as stored, 0 to 1000, 0 to 1."""
SPACES: tuple[Space, ...] = get_args(Space)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """One detected or true object. Example: `LabelledBox(label="red circle", box=(4, 6, 24, 26))`."""

    label: str
    """What it is."""
    box: Box
    """Where it is, in a frame that the caller knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAnswer:
    """What an answer says, its faults included.

    Example: `[{"bbox_2d": [4, 6, 24, 26], "label": "cat"}, 7]` has one box, two items and is not well formed.
    """

    boxes: tuple[LabelledBox, ...] = ()
    """The items that are boxes, in their order."""
    num_items: int = 0
    """All items of the list."""
    well_formed: bool = False
    """Whether the whole text is a list and every item of it a box, as asked."""
    confidences: tuple[float, ...] = ()
    """One per box, 1 where the answer gives none."""


def read_boxes(text: str, *, with_confidence: bool = False) -> BoxAnswer:
    """The boxes of an answer that is a JSON list, bare or as the whole of one ```json fence.

    Text around the list, a repeated key or broken JSON leave nothing to read. An item that is no box is counted and
    makes the answer ill-formed. `with_confidence` lets an item have a "confidence" from 0 to 1 as well.
    """
    items = _items(text)
    if items is None:
        return BoxAnswer()
    found = [_confident_box(item) if with_confidence else (_labelled_box(item), 1.0) for item in items]
    boxes = tuple(box for box, _ in found if box is not None)
    return BoxAnswer(
        boxes=boxes,
        num_items=len(items),
        well_formed=len(boxes) == len(items),
        confidences=tuple(confidence for box, confidence in found if box is not None),
    )


def parse_boxes(text: str) -> tuple[LabelledBox, ...] | None:
    """The boxes of a JSON answer, or None when it is not a list of {bbox_2d, label} as asked.

    Strict on purpose: one malformed item spoils the answer, and nothing but finite numbers with x1 < x2 and
    y1 < y2 is a box.
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        return None
    try:
        items = parse_json(text, "answer")
    except RecordError:
        return None
    if not isinstance(items, list):
        return None
    boxes = [_labelled_box(item) for item in items]
    return None if None in boxes else tuple(box for box in boxes if box is not None)


def as_box(corners: Any) -> Box | None:
    """A list of four finite numbers below a million in size, x1 < x2 and y1 < y2, as a box; None for anything else."""
    if not isinstance(corners, list) or len(corners) != 4:
        return None
    for corner in corners:
        if (type(corner) is not int and type(corner) is not float) or not abs(corner) < 1e6:
            return None
    x1, y1, x2, y2 = corners
    return (float(x1), float(y1), float(x2), float(y2)) if x1 < x2 and y1 < y2 else None


def true_boxes(truth: Mapping[str, Any]) -> list[LabelledBox] | None:
    """The objects of a truth, or None when it says nothing of objects; `num_instances` 0 says that there are none."""
    objects = truth.get("objects")
    if objects is None:
        return [] if truth.get("num_instances") == 0 else None
    if not isinstance(objects, list | tuple):
        raise ValueError(f"the truth's objects are {type(objects).__name__}; give a list of {{label, box}}")
    return [_true_box(item) for item in objects]


def frame_size(space: Space, *, image_size: Size | None, seen_size: Size | None = None) -> tuple[float, float]:
    """Width and height of a frame; a picture of which no `seen_size` is known was seen as stored."""
    if space not in SPACES:
        raise ValueError(f"space is {space!r}{did_you_mean(str(space), SPACES)}")
    if space in ("thousand", "unit"):
        return (1000.0, 1000.0) if space == "thousand" else (1.0, 1.0)
    size = image_size if space == "original" else seen_size or image_size
    if size is None:
        cure = "give the picture's width and height as stored (image_size)"
        raise ValueError(f"boxes in the frame {space!r} need the picture's size, which is unknown; {cure}")
    if min(size) <= 0:
        raise ValueError(f"the picture's size is {size[0]} x {size[1]}; give its width and height in pixels")
    return float(size[0]), float(size[1])


def to_frame(
    boxes: Sequence[Box],
    space: Space,
    *,
    image_size: Size | None,
    seen_size: Size | None = None,
    target: Space = "original",
) -> list[Box]:
    """Boxes of the frame `space` in the frame `target`; neither rounded nor clipped."""
    names = {space, target}
    if len(names) == 1 or (names == {"seen", "original"} and seen_size in (None, image_size)):
        return list(boxes)
    width, height = frame_size(space, image_size=image_size, seen_size=seen_size)
    new_width, new_height = frame_size(target, image_size=image_size, seen_size=seen_size)
    x, y = new_width / width, new_height / height
    return [(x1 * x, y1 * y, x2 * x, y2 * y) for x1, y1, x2, y2 in boxes]


def iou(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union of every box of `first` with every box of `second`, [len(first), len(second)]."""
    inter, union, _ = _areas(first, second)
    return inter / np.where(union > 0, union, 1.0)


def giou(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Generalised IoU (Rezatofighi et al. 2019): IoU less the share of the common hull that neither box covers."""
    inter, union, hull = _areas(first, second)
    return inter / np.where(union > 0, union, 1.0) - (hull - union) / np.where(hull > 0, hull, 1.0)


def match_boxes(
    predicted: Sequence[LabelledBox], true: Sequence[LabelledBox], *, labels_count: bool = True
) -> list[tuple[int, int, float]]:
    """One-to-one matches (predicted, true, IoU) with the greatest total IoU; pairs that do not touch are left out."""
    if not predicted or not true:
        return []
    if len(predicted) * len(true) <= FEW_PAIRS:
        pairs = _touching(predicted, true, labels_count=labels_count)
        if len({p for p, _, _ in pairs}) == len(pairs) == len({t for _, t, _ in pairs}):
            return pairs
    overlap = iou([p.box for p in predicted], [t.box for t in true])
    if labels_count:
        labels = np.asarray([t.label for t in true], dtype=object)
        overlap = overlap * np.asarray([labels == p.label for p in predicted])
    rows, columns = linear_sum_assignment(-overlap)
    return [(int(r), int(c), float(overlap[r, c])) for r, c in zip(rows, columns, strict=True) if overlap[r, c] > 0]


def _touching(
    predicted: Sequence[LabelledBox], true: Sequence[LabelledBox], *, labels_count: bool
) -> list[tuple[int, int, float]]:
    """All pairs that overlap (and have one label), in the order of the predicted."""
    pairs = []
    for p, given in enumerate(predicted):
        left, top, right, bottom = given.box
        for t, wanted in enumerate(true):
            x1, y1, x2, y2 = wanted.box
            width = min(right, x2) - max(left, x1)
            height = min(bottom, y2) - max(top, y1)
            if width > 0 and height > 0 and (not labels_count or given.label == wanted.label):
                inter = width * height
                union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - inter
                pairs.append((p, t, inter / union))
    return pairs


def _areas(
    first: Sequence[Box], second: Sequence[Box]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Areas of the intersection, the union and the common hull of every pair."""
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    hull = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
    inter = np.clip(overlap, 0, None).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    return inter, union, hull.prod(-1)


def _true_box(item: Any) -> LabelledBox:
    corners, label = (item.get("box"), item.get("label")) if isinstance(item, Mapping) else (None, None)
    box = as_box(list(corners) if isinstance(corners, tuple) else corners)
    if box is None or not isinstance(label, str):
        problem = f"the truth's object is {str(item)[:100]}"
        raise ValueError(f"{problem}; give {{label, box: [x1, y1, x2, y2]}} in pixels with x1 < x2 and y1 < y2")
    return LabelledBox(label=label.strip().lower(), box=box)


def _items(text: str) -> list[Any] | None:
    """The items of an answer that is one JSON list, in a fence or bare."""
    if len(text) > MAX_ANSWER_CHARACTERS:
        return None
    text = text.strip()
    if text.startswith("```json") and text.endswith("```"):
        text = text[len("```json") : -len("```")]
    try:
        items = parse_json(text, "answer")
    except RecordError:
        return None
    return items if isinstance(items, list) else None


def _confident_box(item: Any) -> tuple[LabelledBox | None, float]:
    if not isinstance(item, dict):
        return None, 0.0
    confidence = item.get("confidence", 1.0)
    box = _labelled_box({name: value for name, value in item.items() if name != "confidence"})
    number = isinstance(confidence, (int, float)) and not isinstance(confidence, bool)
    return (box, float(confidence)) if number and 0 <= confidence <= 1 else (None, 0.0)


def _labelled_box(item: Any) -> LabelledBox | None:
    if not isinstance(item, dict) or item.keys() != {"bbox_2d", "label"} or not isinstance(item["label"], str):
        return None
    box = as_box(item["bbox_2d"])
    return None if box is None else LabelledBox(label=item["label"].strip().lower(), box=box)
