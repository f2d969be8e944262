"""Commands about what runs are made of: data, the embedded world, the shipped recipes."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from sightline.cli.parts import (
    AT_LEAST_ONE,
    FLAG,
    JSON,
    NOT_NEGATIVE,
    data,
    expect_file,
    expect_nothing,
    recipes,
    say,
    say_json,
    show_check,
    world,
)
from sightline.cli.runs import recipes_and_overrides
from sightline.config import (
    ConfigError,
    Recipe,
    check_present,
    find_recipe,
    judge_names,
    load_recipe,
    recipe_head,
    recipe_names,
)
from sightline.config.load import read_yaml
from sightline.registry import check_name, did_you_mean

if TYPE_CHECKING:
    from sightline.data.sources.library import Imported


@data.command(name="check")
def data_check(
    *words: Annotated[str, Parameter(name="FILES-OR-RECIPE", allow_leading_hyphen=True)],
    model: str | None = None,
    root: Path | None = None,
    show: Annotated[int, NOT_NEGATIVE] = 3,
    on_bad: Literal["error", "skip"] = "error",
    max_image_pixels: Annotated[int, AT_LEAST_ONE] = 50_000_000,
    max_image_bytes: Annotated[int, AT_LEAST_ONE] = 64 * 2**20,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Read every row and image as a run would: counts, lengths, prompts as the model sees them, bad rows.

    Given a recipe in place of files, with overrides as for train, it reads that run's files with that run's limits, and
    a row is good when the recipe's objective can learn from it. No weight is read.

    Example: `sightline data check data/preferences.jsonl --model world:base`

    For a run: `sightline data check dpo_world`

    Args:
        words: JSONL or Parquet files of groups, or a recipe with overrides.
        model: Count tokens and render prompts for this model (a folder, a hub id, `world:base`).
        root: Folder that image paths are relative to; by default that of each file.
        show: How many prompts to print as the model sees them; needs a model.
        on_bad: Whether bad rows end in exit status 2 (error) or 0 (skip).
        max_image_pixels: Images with more are bad rows.
        max_image_bytes: Image files with more are bad rows.
        as_json: Print one JSON object instead.
    """
    if not words:
        raise ConfigError("data check: no file is named; give JSONL or Parquet files of groups, or a recipe")
    recipe = _recipe_of_words(words)
    if recipe is not None:
        from sightline import build

        if model is not None or root is not None:
            raise ConfigError("data check: --model and --root belong to files; a recipe has model.path and data.root")
        found = build.check_recipe_data(recipe, show=show)
        learner: str | None = f"{recipe.name} ({recipe.objective.kind})"
    else:
        for word in words:
            expect_file(Path(word))
        from sightline import build

        found = build.check_data(
            files=[Path(word) for word in words],
            model=model,
            root=root,
            show=show,
            max_image_pixels=max_image_pixels,
            max_image_bytes=max_image_bytes,
        )
        learner = None
    if as_json:
        say_json(asdict(found) | {"used_by": learner})
    else:
        show_check(found)
        if learner is not None:
            say(f"{learner} can use {found.num_groups:,} of {found.num_rows:,} rows")
    return 2 if found.bad_rows and on_bad == "error" else 0


def _recipe_of_words(words: Sequence[str]) -> Recipe | None:
    """The recipe that `data check` was given; None where it was given files."""
    first = Path(words[0])
    is_recipe = first.suffix in (".yaml", ".yml") or (words[0] in recipe_names() and not first.exists())
    if not is_recipe:
        unknown = next((word for word in words if word.startswith("-")), None)
        if unknown is not None:
            options = ("--model", "--root", "--show", "--on-bad", "--max-image-pixels", "--max-image-bytes", "--json")
            raise ConfigError(f"unknown option {unknown}{did_you_mean(unknown, options)}")
        return None
    paths, overrides = recipes_and_overrides(words)
    recipe = load_recipe(paths, overrides)
    check_present(recipe, source=paths[-1])
    return recipe


@data.command(name="convert")
def data_convert(source: Path, target: Path, /) -> None:
    """Write JSONL as Parquet or Parquet as JSONL, nothing lost; the file names say which is which.

    Example: `sightline data convert data/preferences.jsonl data/preferences.parquet`

    Args:
        source: File to read.
        target: File to write; it must not be there yet.
    """
    from sightline.data.files import read_groups, write_groups

    expect_file(source)
    expect_nothing(target)
    num_groups = write_groups(target, (row for _, row in read_groups(source)))
    say(f"{num_groups} groups in {target}")
    if source.resolve().parent != target.resolve().parent:
        say(f"image paths are as they were: set data.root to {source.parent} when you use {target}")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a source may be told; one that does not take an option refuses it."""

    wording: str | None = None
    """How boxes are asked for: qwen, griffon, published, or for coco a question with {categories} in it."""
    suffix: str | None = None
    """Text after every question, such as the form in which to answer."""
    min_instances: Annotated[int | None, NOT_NEGATIVE] = None
    """Leave out pictures with fewer objects."""
    max_instances: Annotated[int | None, NOT_NEGATIVE] = None
    """Leave out pictures with more objects."""
    num_categories: Annotated[int | None, AT_LEAST_ONE] = None
    """How many categories to list in a question, absent ones drawn; by default all (coco)."""
    negatives: float | None = None
    """Share of the prompts that ask only for what is not there (coco)."""
    seed: Annotated[int | None, NOT_NEGATIVE] = None
    """Another seed draws other negatives and other absent categories (coco)."""


@data.command(name="import")
def data_import(
    source: str,
    /,
    *files: Path,
    root: Path | None = None,
    on_bad: Literal["error", "skip"] = "error",
    options: ImportOptions | None = None,
) -> None:
    """Write a published prompt set as groups without answers, with the truth that rewards read; nothing is downloaded.

    Sources: vision_r1 (Vision-R1-Data), vlm_r1_rec (VLM-R1's referring expressions), clevr_count (R1-V's CLEVR),
    geometry3k, coco (instances_*.json). Reads JSONL, JSON, Parquet, Arrow, and folders that save_to_disk wrote.

    Example: `sightline data import coco instances_val2017.json prompts.jsonl --root val2017 --max-instances 30`

    Args:
        source: Which published form it has.
        files: The files to read, and last the .jsonl or .parquet to write, which must not be there yet.
        root: Folder that image paths are relative to; by default the one in which the files lie.
        on_bad: Whether a row that cannot be converted stops the import (error) or is listed and left out (skip).
        options: What the source may be told.
    """
    from sightline.data.sources.library import check_source, import_prompts

    given = {} if options is None else {name: value for name, value in asdict(options).items() if value is not None}
    check_source(source, given)
    if len(files) < 2:
        raise ConfigError("data import: name the files to read, and last the file to write")
    *paths, out = files
    expect_nothing(out)
    done = import_prompts(source, paths, out, options=given, root=root, on_bad=on_bad, on_skip=say)
    say(_imported(done, out))
    if done.root is not None and done.root.resolve() != out.resolve().parent:
        say(f"image paths are relative to {done.root}: set data.root to it when you use {out} (data check: --root)")


def _imported(done: "Imported", out: Path) -> str:
    """What became of all rows, in one line."""
    told = [f"{num} left out ({reason})" for reason, num in done.left_out.items()]
    told += [f"{done.num_bad} bad"] if done.num_bad else []
    told += [f"{num} {what}" for what, num in done.counts.items()]
    return f"{done.num_groups} prompts in {out}, of {done.num_rows} rows" + "".join(f"; {part}" for part in told)


@world.command(name="build")
def world_build(
    *,
    out: Path = Path("runs/world"),
    seed: Annotated[int, NOT_NEGATIVE] = 0,
    scale: float = 1.0,
    only: Literal["clip"] | None = None,
) -> None:
    """Build the embedded models from nothing: one learns to see, then it is badly taught; another learns to judge.

    Example: `sightline world build --scale 0.01 --out runs/tiny_world`

    Args:
        out: Folder for weights and card.
        seed: The same seed gives the same weights on the same machine.
        scale: Share of the full training; 1 takes about an hour and a half on two cores, 0.01 shows that it works.
        only: clip builds the contrastive model alone, on the tower of the ceiling that ships.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"--scale is {scale}; give more than 0 and at most 1")
    from sightline import build

    say(build.world_build(out=out, seed=seed, scale=scale, only=only))


@world.command(name="draw")
def world_draw(
    *,
    split: str = "test",
    num: Annotated[int, AT_LEAST_ONE] = 8,
    out: Path = Path("runs/world/scenes"),
    seed: Annotated[int, NOT_NEGATIVE] = 0,
) -> None:
    """Draw scenes as PNG files, with everything that is true about them in a JSONL file.

    Example: `sightline world draw --split crowd --num 20 --out scenes`

    Args:
        split: train, validation, test, or a shifted split (pairs, crowd, canvas, ground, corrupt).
        num: How many.
        out: Folder for pictures and truth.
        seed: Another seed draws other scenes.
    """
    check_name("split", split)
    from sightline import build

    say(build.world_draw(split=split, num=num, out=out, seed=seed))


@world.command(name="groups")
def world_groups(
    *,
    task: str,
    out: Path,
    split: str = "train",
    num: Annotated[int, AT_LEAST_ONE] = 1000,
    annotator: str = "person",
    exact: Annotated[bool, FLAG] = False,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
) -> None:
    """Write preference data about drawn scenes: prompts, answers, and what an annotator thinks of them.

    Example: `sightline world groups --task describe --num 2000 --out runs/world/describe_pairs.jsonl`

    Args:
        task: detect, refer, count, exist, describe, read or refuse.
        out: A .jsonl or .parquet file.
        split: Which scenes.
        num: How many groups.
        annotator: Who prefers: a simulated person, a weak_judge, or exact rules.
        exact: Instead of answers that somebody compared, the exact answer alone, for `sft`.
        seed: Another seed draws other scenes and other noise.
    """
    for kind, name in (("task", task), ("split", split), ("annotator", annotator)):
        check_name(kind, name)
    from sightline import build

    who = None if exact else annotator
    say(build.world_groups(task=task, split=split, num=num, out=out, annotator=who, seed=seed))


@world.command(name="prompts")
def world_prompts(
    *,
    task: str,
    out: Path,
    split: str = "train",
    num: Annotated[int, AT_LEAST_ONE] = 4000,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
) -> None:
    """Write questions about drawn scenes with their truth and no answers, for runs that learn from rewards.

    Example: `sightline world prompts --task detect --num 4000 --out runs/world/detect_prompts.jsonl`

    Args:
        task: detect, refer, count, exist, describe, read or refuse.
        out: A .jsonl or .parquet file.
        split: Which scenes.
        num: How many.
        seed: Another seed draws other scenes.
    """
    for kind, name in (("task", task), ("split", split)):
        check_name(kind, name)
    from sightline import build

    say(build.world_prompts(task=task, split=split, num=num, out=out, seed=seed))


@recipes.command(name="list")
def recipes_list(*, as_json: Annotated[bool, JSON] = False) -> None:
    """List the shipped recipes and judges, each with what it does and the commands that make its files and run it.

    Example: `sightline recipes list`

    Args:
        as_json: Print one JSON object instead.
    """
    heads = {name: recipe_head(name) for name in (*recipe_names(), *judge_names())}
    if as_json:
        say_json({"recipes": [{"name": name} | asdict(head) for name, head in heads.items()]})
        return
    for name, head in heads.items():
        say(f"{name}: {head.what}")
        for command in head.commands:
            say(f"    {command}")


@recipes.command(name="show")
def recipes_show(name: str, /, *, as_json: Annotated[bool, JSON] = False) -> None:
    """Print a shipped recipe with its comments.

    Example: `sightline recipes show dpo_world`

    Args:
        name: As `sightline recipes list` gives it.
        as_json: Print one JSON object instead: name, what it does, its commands, and its keys with their values.
    """
    file = find_recipe(name)
    if as_json:
        say_json({"name": name} | asdict(recipe_head(name)) | {"recipe": read_yaml(file, name)})
    else:
        say(file.read_text(encoding="utf-8"), end="")


@recipes.command(name="copy")
def recipes_copy(name: str, dest: Path, /) -> None:
    """Copy a shipped recipe, to change it.

    Example: `sightline recipes copy dpo_world my_run.yaml`

    Args:
        name: As `sightline recipes list` gives it.
        dest: A new file, or a folder.
    """
    source = find_recipe(name)
    target = dest / source.name if dest.is_dir() else dest
    expect_nothing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    command = f"judge --judge {target}" if name in judge_names() else f"train {target}"
    say(f"{target}: run it with `sightline {command}`")
