"""From answers to figures: scores gathered into ratios, detection's mean average precision, diversity of samples.

A ratio keeps its numerators and denominators per prompt, so that intervals can resample prompts.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.statistics import Interval, Ratio, resampled_totals
from sightline.evaluation.tasks import Scores
from sightline.rewards.boxes import LabelledBox, match_boxes, parse_boxes

DIVERSITY = ("distinct_answers", "distinct_2", "self_bleu", "distance")
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


def mean_average_precision(
    answers: Sequence[str], true_boxes: Sequence[Sequence[LabelledBox]], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """mAP at IoU 0.50 to 0.95 over labels, for boxes that carry no confidence, with its interval over images.

    All boxes of a label form one operating point (the usual constant score makes the result depend on the order
    of images), so a label's average precision is its precision there over the 101 recall levels up to its recall.
    """
    return interval_of_draws(average_precision_draws(answers, true_boxes, resamples=resamples, seed=seed))


def average_precision_draws(
    answers: Sequence[str], true_boxes: Sequence[Sequence[LabelledBox]], *, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """mAP of all images, then of each resample; with one seed, models judged on the same images share resamples.

    So any function of several models' draws has a paired interval: `interval_of_draws(after / before - 1)`.
    """
    counts = hit_counts([parse_boxes(answer) or () for answer in answers], true_boxes)
    totals = resampled_totals(counts.reshape(len(counts), counts.shape[1] * counts.shape[2]), resamples, seed)
    return map_of(totals.reshape(len(totals), *counts.shape[1:]))


def interval_of_draws(values: NDArray[np.float64]) -> Interval:
    """The first value with the middle 95% of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(estimate=float(values[0]), low=float(low), high=float(high))


def map_of(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """mAP from counts [samples, labels, hits per threshold + predicted + true], one value per sample."""
    hits, predicted, true = totals[..., :-2], totals[..., -2:-1], totals[..., -1:]
    precision = hits / np.maximum(predicted, 1.0)
    levels = np.floor(hits / np.maximum(true, 1.0) * 100 + 1e-9) + 1
    per_label = (precision * levels / 101).mean(-1)
    present = true[..., 0] > 0
    return (per_label * present).sum(-1) / np.maximum(present.sum(-1), 1)


def hit_counts(
    given: Sequence[Sequence[LabelledBox]], true_boxes: Sequence[Sequence[LabelledBox]]
) -> NDArray[np.float64]:
    """Hits per threshold, predicted and true boxes, by image and label; labels that never exist count nowhere."""
    labels = {label: i for i, label in enumerate(sorted({box.label for true in true_boxes for box in true}))}
    counts = np.zeros((len(given), len(labels), len(THRESHOLDS) + 2))
    for row, predicted, true in zip(counts, given, true_boxes, strict=True):
        for label in {box.label for box in (*predicted, *true)} & set(labels):
            mine = [box for box in predicted if box.label == label]
            wanted = [box for box in true if box.label == label]
            overlaps = np.asarray([overlap for _, _, overlap in match_boxes(mine, wanted)])
            row[labels[label], :-2] = (overlaps[:, None] >= np.asarray(THRESHOLDS)).sum(0)
            row[labels[label], -2:] = (len(mine), len(wanted))
    return counts


def diversity(samples: Sequence[Sequence[str]], *, size: int = 2) -> dict[str, Ratio]:
    """How different several sampled answers to one prompt are, by prompt, so that intervals can resample prompts.

    `distinct_answers`: different answers over answers. `distinct_2`: different word pairs (of `size` words) over word
    pairs in a prompt's answers (Li et al. 2016). `self_bleu`: mean BLEU-4 of each answer against the others (Zhu et al.
    2018), high where answers are alike. `distance`: mean over pairs of answers of 1 less the overlap of their words
    (Jaccard). Prompts with a single answer say nothing and are left out of the last two.
    """
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in DIVERSITY}
    for answers in samples:
        words = [answer.lower().split() for answer in answers]
        runs = [run for some in words for run in _runs(some, size)]
        pairs = list(combinations([set(some) for some in words], 2))
        rows["distinct_answers"].append((len(set(answers)), len(answers)))
        rows["distinct_2"].append((len(set(runs)), len(runs)))
        rows["self_bleu"].append((sum(_self_bleu(words)), len(words) if len(words) > 1 else 0))
        rows["distance"].append((sum(_jaccard(a, b) for a, b in pairs), len(pairs)))
    columns = {name: np.asarray(found, dtype=np.float64).reshape(-1, 2) for name, found in rows.items()}
    return {name: Ratio(numerator=c[:, 0], denominator=c[:, 1]) for name, c in columns.items()}


def _runs(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def _jaccard(first: set[str], second: set[str]) -> float:
    both = first | second
    return 1 - len(first & second) / len(both) if both else 0.0


def _self_bleu(words: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-4 of each answer against the others; counts of runs are made once."""
    if len(words) < 2:
        return []
    counts = [[Counter(_runs(some, size)) for size in range(1, 5)] for some in words]
    return [_bleu(words, counts, number) for number in range(len(words))]


def _bleu(words: Sequence[Sequence[str]], counts: Sequence[Sequence[Counter[tuple[str, ...]]]], number: int) -> float:
    """BLEU of one answer against the others, every count of matches raised by one beyond single words (Lin and Och
    2004), with the penalty for being shorter than the nearest other."""
    own = counts[number]
    others = [i for i in range(len(words)) if i != number]
    logs = []
    for size, runs in enumerate(own):
        best: Counter[tuple[str, ...]] = Counter()
        for i in others:
            best |= counts[i][size]
        matched, total = sum((runs & best).values()), sum(runs.values())
        smooth = float(size > 0)
        if matched + smooth == 0 or total + smooth == 0:
            return 0.0
        logs.append(math.log((matched + smooth) / (total + smooth)))
    length = len(words[number])
    nearest = min((abs(len(words[i]) - length), len(words[i])) for i in others)[1]
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - nearest / length))
