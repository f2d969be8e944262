"""Puts the rooms together: what the command line, the examples and the studies call."""

from sightline.build.best_of import BestOf, scorer_of
from sightline.build.commands import (
    evaluate,
    sample_groups,
    world_draw,
    world_groups,
    world_prompts,
)
from sightline.build.commands import sample_answers as sample
from sightline.build.data_checks import check_data, check_recipe_data
from sightline.build.demo import demo
from sightline.build.doctor import doctor
from sightline.build.export import export
from sightline.build.loading import Trusted, load_trained
from sightline.build.model_card import read_figures
from sightline.build.plan import plan
from sightline.build.runs import resume, train
from sightline.build.upbringing import world_build

__all__ = [
    "BestOf",
    "Trusted",
    "check_data",
    "check_recipe_data",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "load_trained",
    "plan",
    "read_figures",
    "resume",
    "sample",
    "sample_groups",
    "scorer_of",
    "train",
    "world_build",
    "world_draw",
    "world_groups",
    "world_prompts",
]
