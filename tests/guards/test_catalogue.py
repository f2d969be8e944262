"""The catalogue, which is checked before anything heavy is imported, names what exists and nothing else."""

from typing import get_args

from sightline.config.schema import EMBEDDED_MODELS, Recipe, Reference, branches, kinds_of
from sightline.registry import catalogue, registered
from sightline.rewards.library import load_builtin
from sightline.world.annotators import TASTES
from sightline.world.scenes import SPLITS
from sightline.world.tasks import TASKS
from sightline.world.weights import NAMES


def test_tasks_are_those_of_the_world():
    assert set(catalogue()["task"]) == set(TASKS)
    assert all(name == task.name for name, task in TASKS.items())


def test_annotators_are_those_of_the_world():
    assert set(catalogue()["annotator"]) == set(TASTES)


def test_splits_are_those_of_the_world():
    assert catalogue()["split"] == list(SPLITS)


def test_embedded_models_are_those_that_ship():
    assert [f"world:{name}" for name in NAMES] == list(EMBEDDED_MODELS)


def test_objectives_are_the_variants_of_the_recipe():
    assert catalogue()["objective"] == [
        kind for branch in branches(Recipe.model_fields["objective"]) for kind in kinds_of(branch)
    ]


def test_rewards_are_those_that_register():
    load_builtin()
    assert registered("reward") == sorted(catalogue()["reward"])


def test_references_are_what_a_recipe_may_choose():
    kinds = get_args(Reference.model_fields["kind"].annotation)
    assert set(catalogue()["reference"]) == set(kinds) - {"auto"}
