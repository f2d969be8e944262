"""The recipe: what one run is, checked to the last key before anything heavy is imported.

`schema` says what a recipe may hold; `load` reads YAML files, merges them, puts overrides on top and fills in
what follows from the rest; `mistakes` turns every mistake into one line. Knows nothing of torch, models or
training.
"""

from sightline.config.load import (
    as_begun,
    check_present,
    check_trust,
    differences,
    find_recipe,
    judge_names,
    load_recipe,
    make_recipe,
    names_code,
    recipe_folder,
    recipe_head,
    recipe_names,
    resolved_yaml,
    to_dict,
)
from sightline.config.mistakes import ConfigError
from sightline.config.schema import (
    Data,
    Dpo,
    Lora,
    Model,
    Objective,
    Optim,
    Recipe,
    Reference,
    Sft,
    Train,
    recipe_keys,
)

__all__ = [
    "ConfigError",
    "Data",
    "Dpo",
    "Lora",
    "Model",
    "Objective",
    "Optim",
    "Recipe",
    "Reference",
    "Sft",
    "Train",
    "as_begun",
    "check_present",
    "check_trust",
    "differences",
    "find_recipe",
    "judge_names",
    "load_recipe",
    "make_recipe",
    "names_code",
    "recipe_folder",
    "recipe_head",
    "recipe_keys",
    "recipe_names",
    "resolved_yaml",
    "to_dict",
]
