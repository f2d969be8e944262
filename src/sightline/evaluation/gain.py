"""What a gain in mAP consists of: objects found, boxes placed better, false boxes dropped.

Two models answer the same pictures. Every true object has in each answer at most one box that hits it (its label, IoU
from 0.5, matched one to one); the other boxes are false. Three changes lead from one set of answers to the other:
objects hit only before or only after (found), other boxes for those hit both times (placed), other false boxes (false).
Each one's share is its Shapley value, the mean effect over all orders of making the changes: shares add up to the gain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from sightline.evaluation.metrics import hit_counts, map_of
from sightline.rewards.boxes import LabelledBox, match_boxes, parse_boxes

HIT_FROM = 0.5
CHANGES: tuple[str, ...] = ("found", "placed", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxGain:
    """Example: `BoxGain(before=0.30, after=0.50, shares={"found": 0.05, "placed": 0.14, "false": 0.01}, ...)`."""

    before: float
    """mAP of the first answers."""
    after: float
    """mAP of the second."""
    shares: dict[str, float]
    """By change: its part of after - before, in mAP."""
    counts: dict[str, int]
    """Objects hit before, after, only before (lost), only after (added); boxes that became better (by IoU) or worse;
    false boxes before and after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One answer against its truth."""

    hits: dict[int, tuple[LabelledBox, float]]
    """By true object: the box that hits it, and its IoU."""
    false: tuple[LabelledBox, ...]
    """The other boxes."""


def box_gain(before: Sequence[str], after: Sequence[str], true_boxes: Sequence[Sequence[LabelledBox]]) -> BoxGain:
    """The gain from the answers before to those after, with its parts."""
    pairs = [
        (_read(first, true), _read(second, true)) for first, second, true in zip(before, after, true_boxes, strict=True)
    ]
    known: dict[frozenset[str], float] = {}

    def value(made: frozenset[str]) -> float:
        if made not in known:
            mixed = [_mixed(first, second, made) for first, second in pairs]
            known[made] = float(map_of(hit_counts(mixed, true_boxes).sum(0, keepdims=True))[0])
        return known[made]

    orders = list(permutations(CHANGES))
    shares: dict[str, float] = dict.fromkeys(CHANGES, 0.0)
    for order in orders:
        for place, change in enumerate(order):
            shares[change] += (value(frozenset(order[: place + 1])) - value(frozenset(order[:place]))) / len(orders)
    return BoxGain(before=value(frozenset()), after=value(frozenset(CHANGES)), shares=shares, counts=_counts(pairs))


def _read(answer: str, true: Sequence[LabelledBox]) -> _Read:
    boxes = parse_boxes(answer) or ()
    matched = [pair for pair in match_boxes(boxes, true) if pair[2] >= HIT_FROM]
    hits = {found: (boxes[place], overlap) for place, found, overlap in matched}
    hitting = {place for place, _, _ in matched}
    return _Read(hits=hits, false=tuple(box for place, box in enumerate(boxes) if place not in hitting))


def _mixed(first: _Read, second: _Read, made: frozenset[str]) -> list[LabelledBox]:
    """The boxes of the first answer with these changes made."""
    both = first.hits.keys() & second.hits.keys()
    found, placed, false = (second if change in made else first for change in CHANGES)
    alone = [box for true, (box, _) in found.hits.items() if true not in both]
    return [*alone, *(placed.hits[true][0] for true in both), *false.false]


def _counts(pairs: Sequence[tuple[_Read, _Read]]) -> dict[str, int]:
    both = [(a.hits[true][1], b.hits[true][1]) for a, b in pairs for true in a.hits.keys() & b.hits.keys()]
    return {
        "hit_before": sum(len(a.hits) for a, _ in pairs),
        "hit_after": sum(len(b.hits) for _, b in pairs),
        "added": sum(len(b.hits.keys() - a.hits.keys()) for a, b in pairs),
        "lost": sum(len(a.hits.keys() - b.hits.keys()) for a, b in pairs),
        "better": sum(new > old for old, new in both),
        "worse": sum(new < old for old, new in both),
        "false_before": sum(len(a.false) for a, _ in pairs),
        "false_after": sum(len(b.false) for _, b in pairs),
    }
