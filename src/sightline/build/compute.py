"""Language-model tokens that a run read, so that runs of different kinds can be given the same compute.

A forward pass counts one, forward with backward three; a packed token is read once however many answers share it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.build.loading import inputs_of, load_for_training
from sightline.build.rl import scored_anew
from sightline.config import Recipe
from sightline.data.files import read_groups
from sightline.train.feeds import imitated, pairs_of

FORWARD, WITH_BACKWARD = 1, 3


def tokens_of(recipe: Recipe, rows: Sequence[Mapping[str, float]]) -> float:
    """What a finished run read, from its log: learning, its reference, and sampling and scoring where it sampled."""
    packed = sum(row["batch/tokens"] for row in rows)
    found = WITH_BACKWARD * packed
    compares = recipe.reference.kind != "none"
    if recipe.rewards:
        rolled = packed / recipe.rollout.passes
        return found + FORWARD * rolled * (1 + compares + bool(scored_anew(recipe)))
    passes = recipe.train.epochs or 1.0
    return found + FORWARD * packed / passes * compares


def passes_of_equal_compute(recipe: Recipe, tokens: float) -> float:
    """Passes over its data that cost a run on given answers as many tokens."""
    loaded = load_for_training(recipe)
    packed = 0.0
    for file in recipe.data.files:
        inputs = inputs_of(recipe, loaded, Path(file))
        for _, group in read_groups(Path(file)):
            used = {i for pair in pairs_of(group) for i in pair[:2]}
            read = sorted(used) if recipe.objective.kind == "dpo" else imitated(group)
            answers = sum(len(inputs.answer(group.completions[i])) - 1 for i in read)
            packed += len(inputs.prompt(group.prompt).ids) + answers
    reference = FORWARD * packed * (recipe.reference.kind != "none")
    return max(0.01, (tokens - reference) / (WITH_BACKWARD * packed))
