"""Boxes: reading them from an answer, their overlap, and one-to-one matching.

A box is (x1, y1, x2, y2) with exclusive right and bottom edges. Knows nothing of labels' meaning or of images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.fields import RecordError, parse_json

MAX_ANSWER_CHARACTERS = 20_000
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """One detected or true object. Example: `LabelledBox(label="red circle", box=(4, 6, 24, 26))`."""

    label: str
    """What it is."""
    box: Box
    """Where it is, in a frame that the caller knows."""


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


def iou(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union of every box of `first` with every box of `second`, [len(first), len(second)]."""
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = np.clip(overlap, 0, None).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    return inter / np.where(areas > 0, areas, 1.0)


def match_boxes(
    predicted: Sequence[LabelledBox], true: Sequence[LabelledBox], *, labels_count: bool = True
) -> list[tuple[int, int, float]]:
    """One-to-one matches (predicted, true, IoU) with the greatest total IoU; pairs that do not touch are left out."""
    if not predicted or not true:
        return []
    overlap = iou([p.box for p in predicted], [t.box for t in true])
    if labels_count:
        overlap = overlap * np.asarray([[p.label == t.label for t in true] for p in predicted])
    rows, columns = linear_sum_assignment(-overlap)
    return [(int(r), int(c), float(overlap[r, c])) for r, c in zip(rows, columns, strict=True) if overlap[r, c] > 0]


def _labelled_box(item: Any) -> LabelledBox | None:
    if not isinstance(item, dict) or set(item) != {"bbox_2d", "label"} or not isinstance(item["label"], str):
        return None
    corners = item["bbox_2d"]
    if not isinstance(corners, list) or len(corners) != 4:
        return None
    if not all(isinstance(c, (int, float)) and not isinstance(c, bool) and abs(c) < 1e6 for c in corners):
        return None
    x1, y1, x2, y2 = (float(c) for c in corners)
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        return None
    return LabelledBox(label=item["label"].strip().lower(), box=(x1, y1, x2, y2))
