"""Whether a run folder holds the run of a recipe: to go on with it, or to refuse another one's."""

from pathlib import Path

from sightline.config.load import as_begun, differences, make_recipe, to_dict
from sightline.config.schema import Recipe
from sightline.journal import Journal, RunError, recipe_of


def goes_on(recipe: Recipe) -> bool:
    """Whether the recipe's folder holds this very run; refused when it holds another.

    A folder without a checkpoint holds none: a start that failed does not stand in the way of the next.
    """
    folder = str(recipe.out)
    before = recipe_of(folder)
    if before is None or Journal(Path(folder)).latest() is None:
        return False
    then = make_recipe(before | {"out": folder}, source=f"{folder}/recipe.yaml")  # new keys have their defaults
    changes = differences(to_dict(as_begun(recipe, then)), to_dict(then))
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        problem = f"{folder} holds a run of another recipe ({changes[0]}{more})"
        raise RunError(f"{problem}; choose another folder with --out, or remove this one")
    return True
