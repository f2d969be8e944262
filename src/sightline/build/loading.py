"""Models by name, folder, hub id or run, and the readers of prompts and answers that go with them."""

from pathlib import Path

import torch

from sightline.config import Recipe, check_trust, make_recipe
from sightline.data.images import ImageStore
from sightline.journal import Journal, named, recipe_of
from sightline.models.arithmetic import AUTO, arithmetic, one_thread_below
from sightline.models.inputs import Inputs, PictureLimits
from sightline.models.load import Loaded, choose_trained, load_model, use_checkpointing
from sightline.progress import Say, announced
from sightline.records import Group
from sightline.train.checkpoint import read_weights
from sightline.world.weights import resolve

Row = tuple[Group, Inputs]
"""A checked group and the reader that knows its file's pictures."""


def settled(recipe: Recipe, say: Say = lambda line: None) -> Recipe:
    """The recipe with what it leaves to the machine made definite; said in a line."""
    model, train = recipe.model, recipe.train
    if model.dtype == AUTO:
        chosen = arithmetic(quantised=model.quantise is not None)
        say(str(chosen))
        model = model.model_copy(update={"dtype": chosen.dtype})
    if train.one_thread_below == AUTO:
        below = one_thread_below(model.dtype, train.threads or torch.get_num_threads())
        train = train.model_copy(update={"one_thread_below": below})
    return recipe.model_copy(update={"model": model, "train": train})


def load_for_training(recipe: Recipe) -> Loaded:
    """The recipe's model with what it trains unfrozen."""
    loaded = train_parts(recipe, load_start(recipe))
    if recipe.model.gradient_checkpointing:
        use_checkpointing(loaded)
    return loaded


def load_start(recipe: Recipe) -> Loaded:
    """The recipe's model as it is before training, all of it frozen."""
    model = recipe.model
    path = resolve(model.path)
    with announced(f"loading {model.path}"):
        return load_model(
            path,
            revision=model.revision,
            dtype=model.dtype,
            quantise=model.quantise,
            trust_remote_code=model.trust_remote_code,
        )


def train_parts(recipe: Recipe, loaded: Loaded) -> Loaded:
    """The model with what the recipe trains unfrozen."""
    model = recipe.model
    return choose_trained(
        loaded,
        train=model.train,
        rank=model.lora.rank,
        alpha=model.lora.alpha,
        targets=model.lora.targets,
        train_tower=model.train_tower,
        train_projector=model.train_projector,
        seed=recipe.seed,
    )


class Trusted(str):
    """A run or model whose own Python code may run: whoever gives the command trusts who wrote it."""

    __slots__ = ()


def load_trained(target: str) -> tuple[Loaded, Recipe | None]:
    """The model of a run (at its last checkpoint, or as `RUN@best`, `RUN@120`), or any model by name, folder or hub id.

    Code that comes with a model runs where the target is Trusted; a run folder never says so by itself.
    """
    trust_remote_code = isinstance(target, Trusted)
    folder, _ = named(target)
    values = recipe_of(folder)
    if values is None:
        path = resolve(target)
        with announced(f"loading {target}"):
            return load_model(path, trust_remote_code=trust_remote_code), None
    recipe = make_recipe(values, source=f"{folder}/recipe.yaml")
    check_trust(recipe, trust_remote_code, source=f"{folder}/recipe.yaml")
    journal = Journal.open(target)
    checkpoint = journal.checkpoint()
    journal.verify(checkpoint)
    loaded = load_for_training(recipe)
    read_weights(checkpoint, loaded.trained(), without=("critic.", "rating."))
    loaded.model.eval()
    return loaded, recipe


def make_inputs(
    loaded: Loaded,
    *,
    root: Path | None = None,
    limits: PictureLimits | None = None,
    max_pixels: int = 50_000_000,
    max_bytes: int = 64 * 2**20,
) -> Inputs:
    """The reader of prompts and answers for a model."""
    return Inputs(
        processor=loaded.processor,
        family=loaded.family,
        turns=loaded.turns,
        store=ImageStore(root, max_pixels=max_pixels, max_bytes=max_bytes),
        limits=limits or PictureLimits(),
        vocabulary=loaded.vocabulary,
    )


def inputs_of(recipe: Recipe, loaded: Loaded, file: Path | None = None) -> Inputs:
    """The reader of prompts and answers for one of the recipe's files."""
    root = Path(recipe.data.root) if recipe.data.root is not None else (file.parent if file is not None else None)
    model = recipe.model
    limits = PictureLimits(min_pixels=model.min_pixels, max_pixels=model.max_pixels, longest_side=model.longest_side)
    return make_inputs(
        loaded,
        root=root,
        limits=limits,
        max_pixels=recipe.data.max_image_pixels,
        max_bytes=recipe.data.max_image_bytes,
    )
