"""Rewards for the one box of a referring expression.

The truth is "target", or one of "objects"; the frame of the answer's box is the option `space`. Rewards for the boxes
of all objects are in `detection`.
"""

from sightline.fields import RecordError, parse_json
from sightline.records import Completion
from sightline.registry import register
from sightline.rewards.answers import answer_span
from sightline.rewards.boxes import Box, LabelledBox, Space, as_box, match_boxes, to_frame, true_boxes
from sightline.rewards.contract import RewardContext
from sightline.rewards.detection import DIGITS, check_share


@register("reward", "rec_iou")
def rec_iou(
    completion: Completion,
    context: RewardContext,
    *,
    threshold: float | None = None,
    space: Space = "seen",
    span: str = "whole",
) -> float | None:
    """IoU of the one box of the answer with the one box that was asked for; with a `threshold` 1 from it on, else 0.

    The truth is "target" (in the frame that the model saw), or the one of "objects" that has its "label". The answer is
    [x1, y1, x2, y2], {"bbox_2d": ...}, or a list of one of these; several boxes earn nothing, so that guessing costs.
    """
    if threshold is not None:
        check_share(threshold, "threshold")
    asked = _asked_box(context)
    if asked is None:
        return None
    true, frame = asked
    box = _only_box(answer_span(completion.text, span))
    if box is None:
        return 0.0
    [box] = to_frame([box], space, image_size=context.image_size, seen_size=context.seen_size, target=frame)
    pairs = match_boxes([LabelledBox(label="", box=box)], [LabelledBox(label="", box=true)])
    overlap = round(pairs[0][2], DIGITS) if pairs else 0.0
    return overlap if threshold is None else float(overlap >= threshold)


def _asked_box(context: RewardContext) -> tuple[Box, Space] | None:
    """The box that was asked for, and its frame."""
    truth = context.truth
    if truth.get("target") is not None:
        [target] = true_boxes({"objects": [{"label": "", "box": truth["target"]}]}) or []
        return target.box, "seen"
    true, label = true_boxes(truth), truth.get("label")
    if true is None:
        return None
    alike = [box for box in true if label is None or box.label == str(label).strip().lower()]
    if len(alike) != 1:
        problem = f"the truth has {len(alike)} objects to which rec_iou could refer"
        raise ValueError(f'{problem}; give "target", or "objects" of which one has its "label"')
    return alike[0].box, "original"


def _only_box(text: str) -> Box | None:
    """The box of an answer that is nothing but one box."""
    try:
        value = parse_json(text.removeprefix("```json").removesuffix("```"), "answer")
    except RecordError:
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        if value.keys() - {"label"} != {"bbox_2d"}:
            return None
        value = value["bbox_2d"]
    return as_box(value)
