"""Detection rewards as others published them, faults included, so that runs can be compared with theirs.

Vision-R1's released code (Griffon at 9866875, in part unlike its paper), VLM-R1's mAP, Visual-RFT's detection reward.
Each can be gamed, as `docs/rewards.md` shows: train with the forms in `detection`. Written anew from what the originals
compute; left out are their logging and, of Visual-RFT, the check by math-verify that box answers never pass.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.registry import did_you_mean
from sightline.rewards.boxes import Box, LabelledBox, Space, frame_size, iou, to_frame
from sightline.rewards.contract import RewardContext

Floats = NDArray[np.float32]
RELEASED_PHASES = {
    "off": ((0.5, 0.5), (0.0, 1.0), (0.0, 1.0)),
    "early": ((0.5, 0.5), (0.5, 0.75), (0.5, 0.75)),
    "late": ((0.75, 0.75), (0.5, 0.75), (0.75, 0.9)),
}
"""Low and high of a pair in recall, of recall itself, and of a pair in precision."""
MAX_RELEASED_CHARACTERS = 200_000
_NUMBER = r"(\d{1,3}|1000)"
CANONICAL = re.compile(rf'\{{"bbox_2d": \[{", ".join([_NUMBER] * 4)}\], "label": "([^"]+)"\}}')
COCO_THRESHOLDS = tuple(i / 100 for i in range(50, 100, 5))
COCO_RECALLS = np.linspace(0, 1, 101)
COCO_MAX_BOXES = 100


def released_vision_r1(
    text: str, context: RewardContext, *, num_objects: int, phase: str | None, space: Space
) -> dict[str, float]:
    """The parts that Vision-R1's released code gives; ValueError where that code fails or gives no number.

    Its default phase is "off". All arithmetic is in single precision, as there.
    """
    phase = phase or "off"
    if phase not in RELEASED_PHASES:
        raise ValueError(f"phase is {phase!r}{did_you_mean(str(phase), RELEASED_PHASES)}")
    if len(text) > MAX_RELEASED_CHARACTERS:
        raise ValueError(f"the answer has {len(text)} characters; cut answers, or use mode sightline")
    form = _released_format(text)
    if num_objects <= 0:
        form = 1.0 - form
    found = _released_boxes(text.strip())
    if not found:
        nothing = float(num_objects <= 0)
        return {"format": form, "recall": nothing, "precision": nothing}
    scored = _released_pairs(found, context, space)
    of_pair, of_recall, of_precision = RELEASED_PHASES[phase]
    hits = _thresholded(scored, *of_pair).cumsum(dtype=np.float32)[-1:]
    with np.errstate(all="ignore"):
        recall = _thresholded((hits / num_objects).astype(np.float32), *of_recall)[0]
    if math.isnan(recall):
        raise ValueError("the truth's num_instances is 0 though objects are listed; make them agree")
    precision = _thresholded(scored, *of_precision).mean(dtype=np.float32)
    return {"format": form, "recall": float(recall), "precision": float(precision)}


def vlm_r1_map(text: str, true: Sequence[LabelledBox], context: RewardContext, *, space: Space) -> tuple[float, int]:
    """VLM-R1's mAP of one image, and the number of items in the answer.

    COCO's evaluation with every score 1, so that the order of the answer ranks it; only labels of the truth are
    evaluated. Read from the last answer tags and the last json fence in them, where there are any.
    """
    text = _last_between(text, "<answer>", "</answer>")
    items = _json_list(_last_between(text, "```json", "```"))
    if text == "None" and not true:
        return 1.0, 0
    if not items or not true:
        return float(not items and not true), len(items)
    labels = dict.fromkeys(box.label for box in true)
    found: dict[str, list[Box]] = {label: [] for label in labels}
    for item in items:
        box = _four_numbers(item.get("bbox_2d")) if isinstance(item, dict) else None
        label = str(item.get("label")).strip().lower() if isinstance(item, dict) else ""
        if box is not None and label in found:
            found[label] += _moved([box], context, space)
    precisions = [_coco_precision(found[name], [box.box for box in true if box.label == name]) for name in labels]
    return math.fsum(precisions) / len(precisions), len(items)


def published_visual_rft(
    text: str, true: Sequence[LabelledBox], context: RewardContext, *, space: Space
) -> dict[str, float]:
    """Visual-RFT's three parts: equal boxes count once, labels do not count, an unmatched box earns 1 - confidence.

    Items are {"Position", "Confidence"} as there, or {"bbox_2d", "confidence"}; without a confidence it is 1.
    """
    tagged = text.startswith("<think>") and text.endswith("</answer>")
    form = float(tagged and re.search(r"</think>\s*<answer>", text[len("<think>") : -len("</answer>")]) is not None)
    found = _visual_rft_boxes(text)
    if not found:
        return {"iou": 0.0, "confidence": 0.0, "format": form}
    overlaps, confidences = _greedy(found, true, context, space)
    earned = [c if overlap else 1 - c for overlap, c in zip(overlaps, confidences, strict=True)]
    return {
        "iou": min(1.0, math.fsum(overlaps) / max(len(true), len(found))),
        "confidence": min(max(math.fsum(earned) / len(found), 0.0), 1.0),
        "format": form,
    }


def _released_format(text: str) -> float:
    """1 for any JSON, unless a labelled item's bbox_2d is no list of four; only some fences are taken off."""
    try:
        value = json.loads(re.sub("\n```|```json\n", "", text).strip())
    except json.JSONDecodeError:
        return 0.0
    except (ValueError, RecursionError) as error:
        problem = "the released code fails on JSON that is nested this deeply or has numbers this long"
        raise ValueError(f"{problem}; leave such answers out, or use mode sightline") from error
    items = value if isinstance(value, list) else []
    boxes = [item["bbox_2d"] for item in items if isinstance(item, dict) and item.keys() >= {"bbox_2d", "label"}]
    return float(all(isinstance(box, list) and len(box) == 4 for box in boxes))


def _released_boxes(text: str) -> list[tuple[list[int], Any]]:
    """Boxes in whole numbers with their labels: by JSON, and where that yields none, in the canonical spelling."""
    found = []
    for item in _released_items(text):
        box = item.get("bbox_2d") if isinstance(item, dict) else None
        if isinstance(box, list) and len(box) == 4:
            try:
                found.append(([int(corner) for corner in box], item.get("label")))
            except (TypeError, ValueError, OverflowError):
                continue
    found = [pair for pair in found if _is_open(pair[0])]
    spelt = [] if found else CANONICAL.findall(text)
    return found or [(box, label) for *corners, label in spelt if _is_open(box := [int(c) for c in corners])]


def _released_items(text: str) -> list[Any]:
    first, *rest = text.splitlines() or [""]
    if first.startswith("```json"):
        text = "\n".join(rest)
    return _json_list(text.partition("```")[0])


def _is_open(box: Sequence[int]) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _released_pairs(found: list[tuple[list[int], Any]], context: RewardContext, space: Space) -> Floats:
    """GIoU of the pairs that its assignment makes: least L1 distance in original pixels, less 1 for the right class."""
    objects: Sequence[Mapping[str, Any]] = context.truth.get("objects") or ()
    if not objects:
        problem = "the released code fails on a box where the truth has no object"
        raise ValueError(f"{problem}; leave such rows out, or use mode sightline")
    width, height = frame_size("original", image_size=context.image_size)
    seen = frame_size(space, image_size=context.image_size, seen_size=context.seen_size)
    overflow = "the released code fails on coordinates this large; leave such answers out, or use mode sightline"
    try:
        given = np.array([box for box, _ in found], dtype=np.float32)
    except OverflowError as error:
        raise ValueError(overflow) from error
    true = np.array([item["box"] for item in objects], dtype=np.float32)
    right = np.array([[_class(label) == str(item["label"]).lower() for item in objects] for _, label in found])
    with np.errstate(all="ignore"):
        given[:, ::2] = given[:, ::2] / np.float32(seen[0]) * np.float32(width)
        given[:, 1::2] = given[:, 1::2] / np.float32(seen[1]) * np.float32(height)
        scored = _single_giou(given, true)
        apart = np.abs(given[:, None] - true[None])
        distance = apart[..., 0] + apart[..., 1] + apart[..., 2] + apart[..., 3]
        cost = distance - right.astype(np.float32) - scored
    if not np.isfinite(cost).all():
        raise ValueError(overflow)
    return scored[linear_sum_assignment(cost)]


def _class(label: Any) -> str | None:
    return label.strip().lower() if isinstance(label, str) else None


def _single_giou(first: Floats, second: Floats) -> Floats:
    """GIoU in single precision, operation by operation as the released code has it."""
    a, b = first[:, None], second[None]
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), np.float32(0))
    hull = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
    inter, around = sides[..., 0] * sides[..., 1], hull[..., 0] * hull[..., 1]
    extent_a, extent_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    union = extent_a[..., 0] * extent_a[..., 1] + extent_b[..., 0] * extent_b[..., 1] - inter
    scored: Floats = (inter / union - (around - union) / around).astype(np.float32)
    return scored


def _thresholded(values: Floats, low: float, high: float) -> Floats:
    """0 below low, 1 above high, both strictly; the value itself between."""
    return np.where(values < low, 0, np.where(values > high, 1, values)).astype(np.float32)


def _last_between(text: str, opening: str, closing: str) -> str:
    """What the last pair of marks holds, or the whole text."""
    inside, start = text, text.find(opening)
    while start >= 0 and (end := text.find(closing, start + len(opening))) >= 0:
        inside = text[start + len(opening) : end]
        start = text.find(opening, end + len(closing))
    return inside.strip()


def _json_list(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _four_numbers(box: Any) -> Box | None:
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(isinstance(c, (int, float)) and not isinstance(c, bool) and abs(c) < 1e6 for c in box):
        return None
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def _moved(boxes: Sequence[Box], context: RewardContext, space: Space) -> list[Box]:
    return to_frame(boxes, space, image_size=context.image_size, seen_size=context.seen_size)


def _visual_rft_boxes(text: str) -> dict[Box, float]:
    """Boxes with their confidences, each box once; none where one item is not as it should be."""
    _, opened, inside = text.partition("<answer>")
    inside = (inside.partition("</answer>")[0] if opened else text).strip().replace("\n", "").replace("'", '"')
    if not inside.endswith("]"):
        inside = inside.rsplit("},", 1)[0] + "}]"
    found: dict[Box, float] = {}
    for item in _json_list(inside):
        given = item if isinstance(item, dict) else {}
        box = _four_numbers(given.get("Position", given.get("bbox_2d")))
        confidence = given.get("Confidence", given.get("confidence", 1.0))
        if box is None or isinstance(confidence, bool) or not isinstance(confidence, (int, float)):
            return {}
        if confidence != confidence:
            raise ValueError("a confidence is NaN, and so is the published reward; leave it out, or use form fixed")
        found.setdefault(box, float(min(max(confidence, -1e6), 1e6)))
    return found


def _greedy(
    found: Mapping[Box, float], true: Sequence[LabelledBox], context: RewardContext, space: Space
) -> tuple[list[float], list[float]]:
    """IoU above 0.5 with the best object that is still free, or 0, and the confidence: the surest box first."""
    order = sorted(found.items(), key=lambda pair: -pair[1])
    overlap = iou(_moved([box for box, _ in order], context, space), [box.box for box in true])
    taken = []
    for row in overlap:
        best = int(row.argmax()) if len(true) else -1
        taken.append(float(row[best]) if best >= 0 and row[best] > 0.5 else 0.0)
        if taken[-1]:
            overlap[:, best] = 0.0
    return taken, [confidence for _, confidence in order]


def _coco_precision(found: Sequence[Box], true: Sequence[Box]) -> float:
    """COCO's average precision of one category in one image, over its ten thresholds, with all scores equal."""
    if not found:
        return 0.0
    overlap = iou(found[:COCO_MAX_BOXES], true)
    return math.fsum(_precision_at(overlap, threshold) for threshold in COCO_THRESHOLDS) / len(COCO_THRESHOLDS)


def _precision_at(overlap: NDArray[np.float64], threshold: float) -> float:
    free, right = np.ones(overlap.shape[1], dtype=bool), np.zeros(len(overlap))
    for place, row in enumerate(overlap):
        best = len(free) - 1 - int(np.where(free, row, -1.0)[::-1].argmax())  # of equals the last, as in COCO's code
        if free[best] and row[best] >= threshold:
            free[best], right[place] = False, 1.0
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / overlap.shape[1], COCO_RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())
