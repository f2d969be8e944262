"""From answers to figures: per-prompt scores gathered into ratios, and detection's mean average precision.

A ratio keeps its numerators and denominators per prompt, so that intervals can resample prompts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.statistics import Ratio
from sightline.evaluation.tasks import Scores
from sightline.rewards.boxes import LabelledBox, match_boxes, parse_boxes

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))


def gather(scores: Sequence[Scores]) -> dict[str, Ratio]:
    """One ratio per metric from the scores of each prompt, in order."""
    names = list(scores[0]) if scores else []
    return {
        name: Ratio(
            numerator=np.asarray([s[name][0] for s in scores], dtype=np.float64),
            denominator=np.asarray([s[name][1] for s in scores], dtype=np.float64),
        )
        for name in names
    }


def mean_average_precision(answers: Sequence[str], true_boxes: Sequence[Sequence[LabelledBox]]) -> float:
    """mAP at IoU 0.50 to 0.95 over labels, for boxes that carry no confidence.

    All boxes of a label form one operating point (the usual constant score makes the result depend on the order
    of images), so a label's average precision is its precision there over the 101 recall levels up to its recall.
    """
    counts: dict[str, NDArray[np.float64]] = {}
    for answer, true in zip(answers, true_boxes, strict=True):
        _count(counts, parse_boxes(answer) or (), true)
    values = []
    for hits_predicted_true in counts.values():
        hits, (predicted, true) = hits_predicted_true[:-2], hits_predicted_true[-2:]
        if true > 0:
            precision = hits / max(predicted, 1.0)
            levels = np.floor(hits / true * 100 + 1e-9) + 1
            values.append(float((precision * levels / 101).mean()))
    return float(np.mean(values)) if values else 0.0


def _count(
    counts: dict[str, NDArray[np.float64]], predicted: Sequence[LabelledBox], true: Sequence[LabelledBox]
) -> None:
    """Add one answer: hits per threshold, then predicted and true boxes, by label."""
    for label in {box.label for box in (*predicted, *true)}:
        mine = [box for box in predicted if box.label == label]
        wanted = [box for box in true if box.label == label]
        row = counts.setdefault(label, np.zeros(len(THRESHOLDS) + 2))
        overlaps = [overlap for _, _, overlap in match_boxes(mine, wanted)]
        row[:-2] += [sum(overlap >= threshold for overlap in overlaps) for threshold in THRESHOLDS]
        row[-2:] += (len(mine), len(wanted))
