"""`sightline data check`: files of groups read as a run would read them, for a model or for a recipe.

Lengths and prompts come from the model's processor and outline; no weight is read. Knows how rows are measured; what a
good row is lies in data/check and in the objectives' own checks.
"""

from collections.abc import Sequence
from pathlib import Path

from sightline.build.loading import inputs_of, make_inputs
from sightline.build.plan import outline_of
from sightline.build.rows import check_objective, measure
from sightline.config import Recipe
from sightline.data.check import CheckReport, Lengths, check
from sightline.data.images import ImageStore
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.outline import load_outline
from sightline.progress import announced
from sightline.records import Group, Prompt
from sightline.world.weights import resolve


def check_data(
    *,
    files: Sequence[Path],
    model: str | None = None,
    root: Path | None = None,
    show: int = 3,
    max_image_pixels: int = 50_000_000,
    max_image_bytes: int = 64 * 2**20,
) -> CheckReport:
    """Counts, lengths and bad rows of data files; lengths and rendered prompts need a model's processor."""

    def store_for(file: Path) -> ImageStore:
        return ImageStore(root or file.parent, max_pixels=max_image_pixels, max_bytes=max_image_bytes)

    if model is None:
        return check(files, store_for=store_for, show=show)
    path = resolve(model)
    with announced(f"reading the processor of {model}"):
        outline = load_outline(path)
    inputs = make_inputs(outline, root=root or files[0].parent, max_pixels=max_image_pixels, max_bytes=max_image_bytes)
    return check(
        files,
        store_for=store_for,
        measure=lambda group: measure(inputs, group),
        render=lambda prompt: _as_seen(inputs, prompt),
        show=show,
    )


def check_recipe_data(recipe: Recipe, *, show: int = 3) -> CheckReport:
    """The same of a recipe's files, training and validation: a row is good when its objective can learn from it."""
    with announced(f"reading the processor of {recipe.model.path}"):
        outline = outline_of(recipe)
    reader = _Reader(recipe, outline)
    return check(
        [Path(file) for file in (*recipe.data.files, *recipe.data.validation_files)],
        store_for=reader.store_for,
        measure=reader.measure,
        render=reader.render,
        show=show,
        max_prompt_tokens=recipe.data.max_prompt_tokens,
        max_answer_tokens=recipe.data.max_answer_tokens,
    )


class _Reader:
    """Reads the rows of a recipe's files. State: the reader of the file that is open, since files have their roots."""

    def __init__(self, recipe: Recipe, outline: Loaded) -> None:
        self._recipe, self._outline = recipe, outline
        self._inputs: Inputs | None = None

    def store_for(self, file: Path) -> ImageStore:
        """Begin a file."""
        self._inputs = inputs_of(self._recipe, self._outline, file)
        return self._inputs.store

    def measure(self, group: Group) -> Lengths:
        """Tokens of a group; RecordError for one that the objective cannot learn from."""
        assert self._inputs is not None
        check_objective(self._recipe, group)
        lengths = measure(self._inputs, group)
        return lengths

    def render(self, prompt: Prompt) -> str:
        """The prompt as the model sees it."""
        assert self._inputs is not None
        return _as_seen(self._inputs, prompt)


def _as_seen(inputs: Inputs, prompt: Prompt) -> str:
    """The prompt's tokens as text, runs of image placeholders written once with their count."""
    image = inputs.soft_token
    pieces: list[str] = []
    run = 0
    for token in (*inputs.prompt(prompt).ids, None):
        if token == image:
            run += 1
            continue
        if run:
            pieces.append(f"{inputs.family.soft_token(inputs.processor.tokenizer)}*{run}")
            run = 0
        if token is not None:
            pieces.append(inputs.processor.tokenizer.decode([token]))
    return "".join(pieces)
