"""Rows of a recipe's data: how long they are for its model, and whether its objective can learn from them."""

from pathlib import Path

from sightline.build.rl import learns_from_rewards
from sightline.config import Recipe
from sightline.config.schema import Ranking
from sightline.data.check import Lengths, check_images, check_lengths
from sightline.data.files import bad_row, read_groups
from sightline.models.inputs import Inputs
from sightline.records import Group, RecordError
from sightline.train.feeds import check_signals, of_aspect


def check_first_rows(recipe: Recipe) -> None:
    """Refuse files whose first row gives the objective nothing to learn from, before anything is loaded."""
    if learns_from_rewards(recipe) or recipe.data.on_bad == "skip":
        return
    for file in map(Path, recipe.data.files):
        line, group = next(iter(read_groups(file)), (0, None))
        if group is None:
            continue  # an empty file is told of where all rows are read
        try:
            check_objective(recipe, of_aspect(group, recipe.data.aspect))
        except RecordError as error:
            bad = bad_row(file, line, error)
            more = f"`sightline data check` with the recipe says it of every row, and {recipe.objective.kind} needs it"
            raise RecordError(f"{bad.file}:{bad.line}: {bad.field}", bad.problem, f"{bad.cure} ({more})") from error


def check_objective(recipe: Recipe, group: Group) -> None:
    """RecordError when the recipe's objective can learn nothing from the group's signals."""
    if not learns_from_rewards(recipe):
        rated = recipe.objective.attributes if isinstance(recipe.objective, Ranking) else ()
        check_signals(group, objective=recipe.objective.kind, attributes=rated)


def check_row(recipe: Recipe, inputs: Inputs, group: Group, *, opened: set[str]) -> Lengths:
    """Tokens of a row that the recipe can learn from; RecordError says what is wrong with another."""
    check_images(group.prompt, inputs.store, opened=opened)
    check_objective(recipe, group)
    lengths = measure(inputs, group)
    check_lengths(
        lengths,
        max_prompt_tokens=recipe.data.max_prompt_tokens,
        max_answer_tokens=recipe.data.max_answer_tokens,
    )
    return lengths


def measure(inputs: Inputs, group: Group) -> Lengths:
    """Tokens of a group for this model."""
    prompt = inputs.prompt(group.prompt)
    image = sum(part.num_tokens for part in prompt.images)
    answers = tuple(
        len(inputs.answer(completion, where=f"completions[{i}].text")) for i, completion in enumerate(group.completions)
    )
    return Lengths(prompt_text=len(prompt.ids) - image, image=image, answers=answers)
