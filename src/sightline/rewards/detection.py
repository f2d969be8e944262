"""Rewards for the boxes of all objects.

Vision-R1 (Zhan et al. 2025, arXiv 2503.18013) in its paper's form and in ours, and the rewards of VLM-R1 and
Visual-RFT with their known failures mended; the published forms are in `published`. True boxes are in pixels of the
picture as stored, boxes of an answer in the frame that the option `space` names. Every reward here gives None when the
truth says nothing of objects, counts every item of an answer, read or not, and reads whole answers only.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sightline.records import Completion
from sightline.registry import did_you_mean, register
from sightline.rewards.answers import answer_span
from sightline.rewards.boxes import (
    Box,
    BoxAnswer,
    LabelledBox,
    Space,
    frame_size,
    iou,
    match_boxes,
    read_boxes,
    to_frame,
    true_boxes,
)
from sightline.rewards.contract import RewardContext, Score
from sightline.rewards.curriculum import differentiate
from sightline.rewards.published import COCO_THRESHOLDS, published_visual_rft, released_vision_r1, vlm_r1_map

MODES = ("sightline", "paper", "released")
DIGITS = 12
"""Overlaps are rounded to so many, so that a change of frame moves none across a threshold."""
REPEAT_FROM = 0.95
"""IoU from which a second box of one label says the same as the first."""
CLAIM_FROM = 0.5
"""IoU from which a surplus box claims an object of its label again that another box has found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Where Vision-R1 draws its lines. Example: `Rule(valid_from=0.5, none_below=0.5, full_from=0.75)`."""

    valid_from: float
    """IoU from which a box has found its object (the paper's xi 0)."""
    none_below: float
    """What is below earns nothing (xi 1): a box's IoU in precision, and recall."""
    full_from: float
    """What is at least this earns everything (xi 2)."""


PHASES = {
    "off": Rule(valid_from=0.5, none_below=0.0, full_from=1.0),
    "early": Rule(valid_from=0.5, none_below=0.5, full_from=0.75),
    "late": Rule(valid_from=0.75, none_below=0.75, full_from=0.9),
}


@register("reward", "vision_r1")
def vision_r1(  # noqa: PLR0913 - the paper's dials, each of which a curriculum may move
    completion: Completion,
    context: RewardContext,
    *,
    mode: str = "sightline",
    phase: str | None = None,
    step: float = 0.5,
    space: Space = "seen",
    valid_from: float | None = None,
    none_below: float | None = None,
    full_from: float | None = None,
) -> Score | None:
    """Vision-R1: format + recall + precision, 0 to 3.

    `sightline`: boxes must have the right label to match, precision is over all items of the answer, a box given twice
    (one label, IoU from 0.95) and an object boxed twice (from 0.5) cost the format, thresholds belong to the better
    side, and what is below one earns ever less, not nothing, so that a rule that tightens never pays a good answer
    what it pays an empty one. A fourth part, `charge`, makes precision one over the number of objects and of items
    that found none, leaves an answer with more items than objects the share objects / items of everything, and an
    empty list nothing, unless there is nothing to find: then it is right, and boxes earn nothing.
    `paper`: labels do not matter, a box finds its object only above `valid_from`, nothing is earned below a threshold
    and nothing charged. `released`: what the authors' code computes (`published.released_vision_r1`); it has no
    thresholds to move, and "off" is its phase unless given.

    Args:
        completion: The answer, a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label"}, bare or in one ```json fence.
        context: Its truth, the sizes of the picture, and how far the run is.
        mode: sightline, paper or released.
        phase: off (no differentiation), early or late; None: early up to `step`, then late.
        step: Share of the run at which the phase changes; 1 never.
        space: Frame of the boxes in the answer: seen, original, thousand (0-1000) or unit (0-1).
        valid_from: IoU from which a box has found its object, in place of the phase's.
        none_below: IoU, and recall, below which nothing is earned (`sightline`: ever less), in place of the phase's.
        full_from: IoU, and recall, from which everything is earned, in place of the phase's.
    """
    true = true_boxes(context.truth)
    if true is None:
        return None
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}{did_you_mean(str(mode), MODES)}")
    moved = {"valid_from": valid_from, "none_below": none_below, "full_from": full_from}
    given = {name: value for name, value in moved.items() if value is not None}
    if mode == "released":
        if given:
            raise ValueError(f"mode released has fixed thresholds; remove {', '.join(given)}, or use mode sightline")
        num_objects = _num_instances(context, len(true))
        parts = released_vision_r1(completion.text, context, num_objects=num_objects, phase=phase, space=space)
    else:
        rule = _rule(phase, step, context.progress, given)
        parts = _vision_r1_parts(completion.text, true, context, space, rule, as_in_paper=mode == "paper")
    return Score(value=math.fsum(parts.values()), parts=parts)


@register("reward", "map")
def mean_average_precision(
    completion: Completion, context: RewardContext, *, form: str = "fixed", space: Space = "seen", span: str = "whole"
) -> float | None:
    """Average precision of one image, mean over IoU thresholds 0.5 to 0.95 and over categories, 0 to 1.

    `fixed`: the boxes of an answer have no ranks, so at each threshold the answer earns its recall times its precision,
    which is over all its boxes, those of absent categories and unknown labels too; and an object that is boxed twice,
    under whatever labels, is not found. `vlm_r1`: VLM-R1's, where duplicates, unknown labels and lists of all
    categories cost nothing.
    """
    true = true_boxes(context.truth)
    if true is None:
        return None
    _check_form(form, ("fixed", "vlm_r1"))
    if form == "vlm_r1":
        return vlm_r1_map(completion.text, true, context, space=space)[0]
    return _map(_read(completion.text, context, space, span), true)


@register("reward", "od_length")
def od_length(
    completion: Completion, context: RewardContext, *, form: str = "fixed", space: Space = "seen", span: str = "whole"
) -> Score | None:
    """VLM-R1's odLength: the reward `map` of the same form, times min(1, objects / items of the answer).

    `fixed` counts items that cannot be read, and is right about an empty list where there is nothing to find.
    """
    true = true_boxes(context.truth)
    if true is None:
        return None
    _check_form(form, ("fixed", "vlm_r1"))
    if form == "vlm_r1":
        value, num_items = vlm_r1_map(completion.text, true, context, space=space)
    else:
        answer = _read(completion.text, context, space, span)
        value, num_items = _map(answer, true), answer.num_items
    share = min(1.0, len(true) / num_items) if num_items else 1.0
    return Score(value=value * share, parts={"map": value, "length": share})


@register("reward", "visual_rft")
def visual_rft(
    completion: Completion, context: RewardContext, *, form: str = "fixed", space: Space = "seen", span: str = "whole"
) -> Score | None:
    """Visual-RFT's detection reward: IoU + confidence + format, 0 to 3.

    Items may have a "confidence" from 0 to 1; without one it is 1. `fixed`: labels count, equal boxes are two boxes,
    matching is one to one for the greatest total IoU, and only IoU from 0.5 on counts. Over the number of objects and
    of items that hit none, a box with confidence c earns c * (2 - c) when it is right and loses c * c when not, so
    that the honest confidence is the best and a box that hits nothing costs even at confidence 0. An empty list has
    no format where there is something to find. `published`: as in the authors' code.
    """
    true = true_boxes(context.truth)
    if true is None:
        return None
    _check_form(form, ("fixed", "published"))
    if form == "published":
        parts = published_visual_rft(completion.text.strip(), true, context, space=space)
        return Score(value=math.fsum(parts.values()), parts=parts)
    answer = _read(completion.text, context, space, span, with_confidence=True)
    names_something = answer.num_items > 0 or not true
    parts = {**_confident_parts(answer, true), "format": float(answer.well_formed and names_something)}
    return Score(value=math.fsum(parts.values()), parts=parts)


@register("reward", "box_f1")
def box_f1(
    completion: Completion,
    context: RewardContext,
    *,
    threshold: float | Sequence[float] = 0.5,
    space: Space = "seen",
    span: str = "whole",
) -> float | None:
    """F1 of boxes with the right label and at least this IoU; the mean over several thresholds, when several are given.

    An empty list is 1 where there is nothing to find; an answer that cannot be read is 0.
    """
    true = true_boxes(context.truth)
    if true is None:
        return None
    thresholds = [threshold] if isinstance(threshold, (int, float)) else list(threshold)
    if not thresholds:
        raise ValueError("threshold is an empty list; give one IoU or several, such as 0.5")
    for each in thresholds:
        check_share(each, "threshold")
    answer = _read(completion.text, context, space, span)
    if not true:
        return _right_about_nothing(answer)
    overlaps = [overlap for _, _, overlap in _pairs(answer, true)]
    hits = sum(overlap >= each for overlap in overlaps for each in thresholds)
    return 2 * hits / len(thresholds) / (answer.num_items + len(true))


def _read(text: str, context: RewardContext, space: Space, span: str, *, with_confidence: bool = False) -> BoxAnswer:
    """What a span of the answer says, boxes in the frame of the truth."""
    return _placed(read_boxes(answer_span(text, span), with_confidence=with_confidence), context, space)


def _placed(answer: BoxAnswer, context: RewardContext, space: Space) -> BoxAnswer:
    before = [item.box for item in answer.boxes]
    after = to_frame(before, space, image_size=context.image_size, seen_size=context.seen_size)
    boxes = [LabelledBox(label=item.label, box=box) for item, box in zip(answer.boxes, after, strict=True)]
    return replace(answer, boxes=tuple(boxes))


def _pairs(
    answer: BoxAnswer, true: Sequence[LabelledBox], *, labels_count: bool = True
) -> list[tuple[int, int, float]]:
    matches = match_boxes(answer.boxes, true, labels_count=labels_count)
    return [(place, found, round(overlap, DIGITS)) for place, found, overlap in matches]


def _says_again(boxes: Sequence[LabelledBox]) -> bool:
    """Whether two boxes of one label are nearly the same; the frame does not matter."""
    alike: dict[str, list[Box]] = {}
    for item in boxes:
        alike.setdefault(item.label, []).append(item.box)
    several = [same for same in alike.values() if len(same) > 1]
    return any(bool((np.triu(iou(same, same).round(DIGITS), 1) >= REPEAT_FROM).any()) for same in several)


def _right_about_nothing(answer: BoxAnswer) -> float:
    """Where there is nothing to find: 1 for an empty list, 0 for boxes and for what cannot be read."""
    return float(answer.well_formed and answer.num_items == 0)


def _map(answer: BoxAnswer, true: Sequence[LabelledBox]) -> float:
    """Precision over all items times recall (mean over the truth's categories), mean over thresholds.

    With one category it is the average precision for ties ranked the worst way round, wrong boxes before right ones.
    """
    if not true:
        return _right_about_nothing(answer)
    pairs = _pairs(answer, true)
    hits = {place for place, _, overlap in pairs if overlap >= COCO_THRESHOLDS[0]}
    claimed = _claimed_again(answer, true, hits, labels_count=False)
    there = Counter(box.label for box in true)
    total = 0.0
    for threshold in COCO_THRESHOLDS:
        found = [i for _, i, overlap in pairs if overlap >= threshold > claimed[i]]
        total += len(found) * math.fsum(1 / there[true[i].label] for i in found)
    return total / (len(COCO_THRESHOLDS) * len(there) * max(answer.num_items, 1))


def _claimed_again(
    answer: BoxAnswer, true: Sequence[LabelledBox], right: Collection[int], *, labels_count: bool = True
) -> Sequence[float]:
    """For each object the greatest IoU with a box (of its label) that found no object; boxes in the truth's frame."""
    surplus = [box for place, box in enumerate(answer.boxes) if place not in right]
    if not surplus:
        return [0.0] * len(true)
    overlap = iou([box.box for box in surplus], [box.box for box in true])
    if not labels_count:
        return overlap.max(0).tolist()
    labels = np.asarray([box.label for box in true], dtype=object)
    return np.where([labels == box.label for box in surplus], overlap, 0.0).max(0).tolist()


def _confident_parts(answer: BoxAnswer, true: Sequence[LabelledBox]) -> dict[str, float]:
    """Visual-RFT's IoU and confidence, mended; both full for an empty list where there is nothing to find."""
    if not true:
        right = _right_about_nothing(answer)
        return {"iou": right, "confidence": right}
    overlaps = {place: overlap for place, _, overlap in _pairs(answer, true) if overlap >= 0.5}
    most = len(true) + answer.num_items - len(overlaps)
    earned = [c * (2 - c) if place in overlaps else -c * c for place, c in enumerate(answer.confidences)]
    unread = answer.num_items - len(answer.boxes)
    return {"iou": math.fsum(overlaps.values()) / most, "confidence": max(0.0, math.fsum(earned) - unread) / most}


def _vision_r1_parts(
    text: str, true: Sequence[LabelledBox], context: RewardContext, space: Space, rule: Rule, *, as_in_paper: bool
) -> dict[str, float]:
    """The parts by the paper's equations 4 to 8; our form differs in labels, repeats, what is below a threshold, and
    the charge for a wrong number of items."""
    answer = read_boxes(text)
    placed = _placed(answer, context, space)
    pairs = _pairs(placed, true, labels_count=not as_in_paper)
    form = float(answer.well_formed and _is_inside(answer, context, space))
    if not as_in_paper and not _says_again(true) and (_says_again(answer.boxes) or _claims_again(placed, true, pairs)):
        form = 0.0
    num_objects = max(_num_instances(context, len(true)), len(true))
    parts, found = {"format": form, "recall": 0.0, "precision": 0.0}, 0.0
    if num_objects == 0:
        parts["recall"] = parts["precision"] = _right_about_nothing(answer)
    elif answer.boxes:
        overlaps = [overlap for _, _, overlap in pairs]
        earn = differentiate if as_in_paper else _earned
        found = math.fsum(_found(overlap, rule.valid_from, as_in_paper=as_in_paper) for overlap in overlaps)
        earned = math.fsum(earn(overlap, rule.none_below, rule.full_from) for overlap in overlaps)
        parts["recall"] = earn(found / num_objects, rule.none_below, rule.full_from)
        parts["precision"] = earned / answer.num_items
    return parts if as_in_paper else parts | {"charge": _charge(parts, answer.num_items, num_objects, found)}


def _found(overlap: float, valid_from: float, *, as_in_paper: bool) -> float:
    """How much of an object a box has found; in the paper all or nothing, and nothing on the very threshold."""
    return float(overlap > valid_from) if as_in_paper else _falling(overlap, valid_from)


def _earned(value: float, low: float, high: float) -> float:
    """Full marks from `high` on and the value itself from `low` on, as in the paper; below it falls away."""
    return differentiate(value, 0.0, high) * _falling(value, low)


def _falling(value: float, threshold: float) -> float:
    """1 from the threshold on, and below it the square of what has been reached of it."""
    return 1.0 if value >= threshold else (value / threshold) ** 2


def _charge(parts: Mapping[str, float], num_items: int, num_objects: int, found: float) -> float:
    """What items that found nothing, and objects that no item found, take away: 0 or less.

    Recall knows no surplus, precision no object that was left out, and format neither: in the sum alone, one sure box
    in a crowd earns more than half of the crowd found, and a label for every box more than an honest answer.
    """
    if not num_items:
        return -parts["format"] if num_objects else 0.0
    precision = parts["precision"] * num_items / (num_objects + num_items - found)
    share = min(1.0, num_objects / num_items)
    return min(0.0, share * (parts["format"] + parts["recall"] + precision) - math.fsum(parts.values()))


def _is_inside(answer: BoxAnswer, context: RewardContext, space: Space) -> bool:
    """Whether every box lies in the frame in which it is written."""
    width, height = frame_size(space, image_size=context.image_size, seen_size=context.seen_size)
    corners = (box.box for box in answer.boxes)
    return all(x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height for x1, y1, x2, y2 in corners)


def _claims_again(placed: BoxAnswer, true: Sequence[LabelledBox], pairs: Sequence[tuple[int, int, float]]) -> bool:
    """Whether a surplus box lies on an object of its label that another box has found."""
    if len(pairs) == len(placed.boxes):
        return False
    again = _claimed_again(placed, true, {place for place, _, _ in pairs})
    return any(min(overlap, again[i]) >= CLAIM_FROM for _, i, overlap in pairs)


def phase_at(progress: float, *, step: float = 0.5, phase: str | None = None, mode: str = "sightline") -> str:
    """The phase in force at this share of the run, by the options of `vision_r1`."""
    if phase is not None or mode == "released":
        return phase or "off"
    return "late" if step < 1 and progress >= step else "early"


def _rule(phase: str | None, step: float, progress: float, given: dict[str, float]) -> Rule:
    check_share(step, "step")
    phase = phase_at(progress, step=step, phase=phase)
    if phase not in PHASES:
        raise ValueError(f"phase is {phase!r}{did_you_mean(str(phase), PHASES)}")
    if not given:
        return PHASES[phase]
    base = PHASES[phase]
    rule = Rule(
        valid_from=given.get("valid_from", base.valid_from),
        none_below=given.get("none_below", base.none_below),
        full_from=given.get("full_from", base.full_from),
    )
    for name, value in given.items():
        check_share(value, name)
    if rule.none_below > rule.full_from:
        problem = f"none_below is {rule.none_below} and full_from {rule.full_from} (phase {phase})"
        raise ValueError(f"{problem}; give full_from at least none_below, both where the phase's do not fit")
    return rule


def _num_instances(context: RewardContext, num_listed: int) -> int:
    number = context.truth.get("num_instances")
    if number is None:
        return num_listed
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"the truth's num_instances is {number!r}; give a whole number from 0, or leave it out")
    return number


def _check_form(form: str, known: Sequence[str]) -> None:
    if form not in known:
        raise ValueError(f"form is {form!r}{did_you_mean(str(form), known)}")


def check_share(value: float, name: str) -> None:
    """Refuse what is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; give a number from 0 to 1")
