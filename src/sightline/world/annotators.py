"""Simulated annotators: a person with known noise and biases, a weak judge, and exact rules.

Each reads the answers of a group against the scene's truth and returns the group with preference pairs. What an
annotator values is a number per answer (its utility), written down here, so that "which source is better" has a
checkable answer. Knows nothing of models.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sightline.records import Group, Pair
from sightline.world.tasks import naming, score


@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """What an annotator values in an answer, and how reliably.

    Example: the person of the demo has `Taste(noise=0.1)`: true quality decides, one label in ten is flipped.
    """

    truth: float = 1.0
    """Weight of the true quality (0 to 1 for most tasks)."""
    length: float = 0.0
    """Bias: utility per word."""
    polite: float = 0.0
    """Bias: utility of a polite word."""
    slip: float = 0.0
    """Standard deviation of an error in reading each answer's quality (a weak judge misreads)."""
    noise: float = 0.0
    """Probability that a label is flipped after all."""


TASTES = {
    "rules": Taste(),
    "person": Taste(noise=0.1),
    "weak_judge": Taste(length=0.02, slip=0.25),
}
POLITE = ("please", "certainly", "happy to", "sure")


def quality(answer: str, task: str, facts: Mapping[str, Any], *, aspect: str = "overall") -> float:
    """True quality of an answer: 1 is exact. For descriptions: named objects less absent ones, over those present.

    Descriptions have two aspects besides: "faithfulness" (absent objects cost) and "completeness" (objects named).
    """
    if task == "describe":
        found = naming(answer, facts)
        present = len(facts["objects"])
        named = present if aspect == "faithfulness" else len(found.found)
        invented = 0 if aspect == "completeness" else len(found.absent)
        return (named - invented) / present
    if aspect != "overall":
        raise ValueError(f"{task} answers have no aspect {aspect!r}; only descriptions do")
    scores = score(task, answer, facts)
    if task == "detect":
        (hits, true), (_, predicted) = scores["recall_50"], scores["precision_50"]
        return 2 * hits / (true + predicted) if true + predicted else 1.0
    name = "iou" if task == "refer" else "accuracy"
    return scores[name][0]


def annotate(group: Group, annotator: str, *, seed: int, aspect: str = "overall", taste: Taste | None = None) -> Group:
    """The group with a pair for every two answers that differ for this annotator, best difference first."""
    chosen = taste if taste is not None else find_taste(annotator)
    task, facts = group.prompt.task, dict(group.prompt.truth)
    if task is None:
        raise ValueError(f"prompt {group.prompt.id!r} names no task, so nobody can judge its answers; set prompt.task")
    rng = np.random.default_rng(_seed(seed, group.prompt.id, annotator, aspect))
    texts = [completion.text for completion in group.completions]
    values = [_utility(text, quality(text, task, facts, aspect=aspect), chosen, rng) for text in texts]
    pairs = []
    for i in range(len(values)):
        for j in range(i + 1, len(values)):
            if math.isclose(values[i], values[j]):
                continue
            better, worse = (i, j) if values[i] > values[j] else (j, i)
            margin = values[better] - values[worse]
            if rng.random() < chosen.noise:
                better, worse = worse, better
            pairs.append(Pair(chosen=better, rejected=worse, margin=margin, source=annotator, aspect=aspect))
    pairs.sort(key=lambda pair: -(pair.margin or 0.0))
    return replace(group, signals=(*group.signals, *pairs))


def find_taste(annotator: str) -> Taste:
    """The taste of a named annotator."""
    if annotator not in TASTES:
        raise ValueError(f"there is no annotator {annotator!r}; the annotators are {', '.join(TASTES)}")
    return TASTES[annotator]


def _utility(answer: str, true_quality: float, taste: Taste, rng: np.random.Generator) -> float:
    value = taste.truth * true_quality
    if taste.slip:
        value += float(rng.normal(0, taste.slip))
    words = answer.lower()
    return value + taste.length * len(words.split()) + taste.polite * any(word in words for word in POLITE)


def _seed(seed: int, prompt: str, annotator: str, aspect: str) -> int:
    words = [str(seed), prompt, annotator, *([] if aspect == "overall" else [aspect])]
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8], "little")
