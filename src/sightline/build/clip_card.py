"""The contrastive model's card: what it measurably tells apart, what it does not, and how far it is a judge.

Similarities are those of `models.contrast`, as a reward or a ranking would see them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.stats import rankdata

from sightline.build.commands import sample_groups
from sightline.evaluation.statistics import Interval, interval_of_mean, resampled_totals
from sightline.models.contrast import ContrastiveScorer, Picture, load_contrastive
from sightline.models.load import load_model
from sightline.progress import Say
from sightline.world.annotators import quality
from sightline.world.captions import Change, Labels, crowded, hallucinated, missing, repeated, swapped
from sightline.world.prompts import as_prompt
from sightline.world.scenes import Scene, draw, phrases
from sightline.world.stages import CLIP_STAGE
from sightline.world.tasks import make_question, sentence

Floats = NDArray[np.float64]
Abilities = dict[str, Interval]
AMONG = 100
NUM_ANSWERS = 4
RESAMPLES = 10_000
SHOWN = {
    "retrieval": f"of {AMONG} captions of different pictures, the right one first",
    "hallucinated": "right before: the same with an absent object",
    "swapped": "right before: the same with one object exchanged for an absent one",
    "missing": "right before: the same with one object left out",
    "crowded": "right before: the same with several absent objects",
    "everything": "right before: every phrase that there is",
    "repeated": "right before: the same with one object named twice (not taught)",
    "backwards": "right before: the same from right to left (50% would be blind)",
    "better": "of two answers of the base to one picture, the better one before",
    "quality": "rank correlation with true quality, answers of the base",
    "length": "rank correlation with the number of words, answers of the base",
    "length_of_exact": "rank correlation with the number of words, exact captions",
}
CORRELATIONS = ("quality", "length", "length_of_exact")


def everything(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """Every phrase that there is, in random order: longer than what is read at once."""
    return tuple(" ".join(pair) for pair in rng.permutation(phrases()))


def backwards(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """The same objects from right to left."""
    return named[::-1]


TOLD_APART: dict[str, Change] = {
    "hallucinated": hallucinated,
    "swapped": swapped,
    "missing": missing,
    "crowded": crowded,
    "everything": everything,
    "repeated": repeated,
    "backwards": backwards,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the model says of sampled answers, one entry for each answer."""

    scene: NDArray[np.int64]
    """Number of the scene that it is about."""
    similarity: Floats
    """Cosine of picture and answer."""
    quality: Floats
    """True quality of the answer."""
    words: Floats
    """Number of words of the answer."""


def measure_clip(folder: Path, *, base: Path, scenes: int, say: Say) -> tuple[Abilities, dict[str, float]]:
    """Abilities on the test split with their intervals; mean and deviation of the similarity of the base's answers."""
    scorer = ContrastiveScorer(load_contrastive(str(folder), device="cpu"), picture_batch=50)
    shown = [make_question("describe", "test", i).scene for i in range(scenes)]
    found = {"retrieval": _mean(retrieved(scorer, shown))}
    found |= {name: _mean(told_apart(scorer, shown, change)) for name, change in TOLD_APART.items()}
    judged = judge_answers(scorer, base, scenes)
    found["better"] = _mean(better_first(judged))
    found["quality"] = rank_correlation(judged.similarity, judged.quality, judged.scene, seed=0)
    found["length"] = rank_correlation(judged.similarity, judged.words, judged.scene, seed=0)
    exact = [sentence(scene.labels) for scene in shown]
    similarity = np.asarray(scorer.score([as_picture(scene) for scene in shown], exact))
    num_words = np.asarray([len(text.split()) for text in exact], dtype=np.float64)
    found["length_of_exact"] = rank_correlation(similarity, num_words, np.arange(scenes), seed=0)
    spread = {"mean": float(judged.similarity.mean()), "deviation": float(judged.similarity.std())}
    return {name: found[name] for name in SHOWN}, spread


def as_picture(scene: Scene) -> Picture:
    """The scene's picture, keyed by its id."""
    return Picture(key=scene.id, load=lambda: Pillow.fromarray(draw(scene)))


def retrieved(scorer: ContrastiveScorer, shown: Sequence[Scene]) -> Floats:
    """For each scene, whether its caption comes first among those of its neighbours; equal captions count as right."""
    first = []
    for start in range(0, len(shown), AMONG):
        part = shown[start : start + AMONG]
        pictures = [as_picture(scene) for scene in part for _ in part]
        texts = [sentence(scene.labels) for scene in part]
        scores = np.asarray(scorer.score(pictures, texts * len(part))).reshape(len(part), len(part))
        best = [set(part[i].labels) for i in scores.argmax(1)]
        first += [float(labels == set(scene.labels)) for labels, scene in zip(best, part, strict=True)]
    return np.asarray(first)


def told_apart(scorer: ContrastiveScorer, shown: Sequence[Scene], change: Change, *, seed: int = 0) -> Floats:
    """For each scene with at least two objects, whether its exact caption comes before the changed one."""
    several = [scene for scene in shown if len(scene.labels) > 1]
    changed = [change(s.labels, s, np.random.Generator(np.random.PCG64([seed, 6, s.index]))) for s in several]
    pictures = [as_picture(scene) for scene in several]
    exact = scorer.score(pictures, [sentence(scene.labels) for scene in several])
    other = scorer.score(pictures, [sentence(labels) for labels in changed])
    return (np.asarray(exact) > np.asarray(other)).astype(np.float64)


def judge_answers(scorer: ContrastiveScorer, base: Path, scenes: int) -> Judged:
    """Similarity, quality and length of what the base answers when it is asked to describe test scenes."""
    questions = [make_question("describe", "test", i) for i in range(scenes)]
    prompts = [as_prompt(question) for question in questions]
    groups = sample_groups(load_model(str(base)), prompts, num=NUM_ANSWERS, max_tokens=64, seed=0, batch_size=64)
    rows = [(i, answer.text) for i, group in enumerate(groups) for answer in group.completions]
    texts = [text for _, text in rows]
    return Judged(
        scene=np.asarray([i for i, _ in rows]),
        similarity=np.asarray(scorer.score([as_picture(questions[i].scene) for i, _ in rows], texts)),
        quality=np.asarray([quality(text, "describe", questions[i].truth) for i, text in rows]),
        words=np.asarray([len(text.split()) for text in texts], dtype=np.float64),
    )


def better_first(judged: Judged) -> Floats:
    """For each scene with answers of unequal quality, the share of such pairs in which the better one comes before."""
    shares = []
    for scene in np.unique(judged.scene):
        here = judged.scene == scene
        quality_gap = judged.quality[here][:, None] - judged.quality[here][None]
        similarity_gap = judged.similarity[here][:, None] - judged.similarity[here][None]
        if (quality_gap > 0).any():
            shares.append(float((similarity_gap[quality_gap > 0] > 0).mean()))
    return np.asarray(shares)


def rank_correlation(values: Floats, others: Floats, scene: NDArray[np.int64], *, seed: int) -> Interval:
    """Spearman's correlation; the interval draws whole scenes anew and keeps the ranks that all answers have."""
    x, y = rankdata(values), rankdata(others)
    x, y = x - x.mean(), y - y.mean()
    columns = np.zeros((int(scene.max()) + 1, 6))
    np.add.at(columns, scene, np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1))
    num, sum_x, sum_y, sum_xx, sum_yy, sum_xy = resampled_totals(columns, RESAMPLES, seed).T
    together = sum_xy - sum_x * sum_y / num
    apart = np.sqrt((sum_xx - sum_x**2 / num) * (sum_yy - sum_y**2 / num))
    found = together / apart
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Interval(estimate=float(found[0]), low=float(low), high=float(high))


def write_clip_card(
    folder: Path, abilities: Abilities, spread: Mapping[str, float], *, seconds: str, scenes: int
) -> Path:
    """CARD.md and abilities.json beside the weights."""
    plain = {name: asdict(value) for name, value in abilities.items()}
    kept = {"scenes": scenes, "similarity": dict(spread), "abilities": plain}
    (folder / "abilities.json").write_text(json.dumps(kept, indent=1) + "\n")
    path = folder / "CARD.md"
    path.write_text(_text(abilities, spread, seconds, scenes))
    return path


def _text(abilities: Abilities, spread: Mapping[str, float], seconds: str, scenes: int) -> str:
    lines = [
        "# The contrastive model of the embedded world",
        "",
        "`world:clip`: a CLIPModel of transformers (a tower of 64 pixels and patches of 8, a text encoder of 64",
        "tokens; 1.9 M parameters, stored in bfloat16) that says how well a sentence fits a drawn picture: a cheap",
        "judge, biased, for rewards and rankings. Load it with `sightline.models.contrast` or as any CLIP model.",
        "Licence: Apache-2.0; trained on drawn scenes alone.",
        "",
        f"## Measured abilities (test split, {scenes} scenes, 95% intervals over scenes)",
        "",
        "| | |",
        "|---|---|",
        *(f"| {words} | {_cell(abilities[name], plain=name in CORRELATIONS)} |" for name, words in SHOWN.items()),
        "",
        f"The base's answers are {NUM_ANSWERS} samples a picture at temperature 1, equal ones counted once. Their",
        f"similarity has mean {spread['mean']:.3f} and standard deviation {spread['deviation']:.3f}.",
        "",
        "## What it cannot see",
        "",
        "- It was taught sentences that name colour and shape. Where an object lies, its size, its texture, and the",
        "  number on a card or sign never stood in one, so claims about them are noise to it.",
        "- It weighs a sentence as a bag of phrases: order means nothing.",
        "- An object named twice was never taught to be wrong; the row above says how often it minds.",
        '- A denial is read past: "There is no red circle." still speaks for a red circle.',
        "- Words that it was not taught count against a sentence, true or not: a polite word in front costs about as",
        "  much as an absent object, the objects' textures not much less.",
        "- An object left out costs less than an absent one that is named, and least where many are named.",
        "",
        "## Upbringing",
        "",
        f"- {CLIP_STAGE.name}: {CLIP_STAGE.num_steps} updates of {CLIP_STAGE.scenes_per_step} scenes, {seconds}; the",
        "  vision tower starts as that of `world:ceiling`, the text encoder from nothing.",
        "",
        "Rebuilt by `sightline world build --only clip --out FOLDER`, or with the other models when `--only` is left",
        "out. The same seed gives the same bytes on one machine (a test holds two scaled-down rebuilds to each other).",
        "The time is of two x86-64 cores, shared with other work.",
        "A drawn world shows mechanisms, not what a judge of natural pictures is worth.",
        "",
    ]
    return "\n".join(lines)


def _cell(value: Interval, *, plain: bool) -> str:
    if plain:
        return f"{value.estimate:.2f} ({value.low:.2f} to {value.high:.2f})"
    return f"{value.estimate:.1%} ({value.low:.1%} to {value.high:.1%})"


def _mean(values: Floats) -> Interval:
    return interval_of_mean(values, seed=0)
