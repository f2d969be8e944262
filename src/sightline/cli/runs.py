"""Commands about one run or one model: train, resume, sample, evaluate, export, report, demo."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from sightline.cli.parts import (
    AT_LEAST_ONE,
    FLAG,
    NOT_NEGATIVE,
    ON_STDOUT,
    SEVERAL,
    app,
    cell,
    expect_file,
    expect_nothing,
    say,
    say_json,
    show,
)
from sightline.config import (
    ConfigError,
    Recipe,
    check_present,
    check_trust,
    load_recipe,
    make_recipe,
    recipe_keys,
    resolved_yaml,
)
from sightline.config.elsewhere import KEYS
from sightline.config.same import goes_on
from sightline.journal import Journal, atomic_write, recipe_of, step_of
from sightline.registry import check_name, did_you_mean


@app.command
def train(
    *words: Annotated[str, Parameter(name="RECIPE", allow_leading_hyphen=True)],
    dry_run: Annotated[bool, FLAG] = False,
    trust_remote_code: Annotated[bool, FLAG] = False,
) -> None:
    """Train what a recipe says, or go on when its run folder holds the same run.

    Several recipes are merged left to right, and `--KEY.SUB VALUE` (or `key.sub=value`) overrides one key,
    whatever the recipe says; docs/recipes.md explains every key. Recipes are files or names of shipped ones.

    Example: `sightline train recipes/dpo_world.yaml --objective.beta 0.2 --out runs/beta_0.2`

    Args:
        words: Recipes and overrides.
        dry_run: Print the resolved recipe and stop.
        trust_remote_code: Run the model's own Python code, where the recipe says that it has some; also rewards
            (module:function) of a recipe that lies in a run folder.
    """
    paths, overrides = recipes_and_overrides(words)
    recipe = load_recipe(paths, overrides)
    if dry_run:
        say(resolved_yaml(recipe), end="")
        return
    from_runs = [path for path in paths if Path(path).with_name("status.json").exists()]
    check_trust(recipe, trust_remote_code, source=(from_runs or paths)[-1], own_code=not from_runs)
    is_there = goes_on(recipe)
    check_present(recipe, source=paths[-1])
    from sightline import build

    if is_there:
        say(f"{recipe.out} holds this run already: going on with it")
        _tell_run(build.resume(folder=Path(str(recipe.out)), trust_remote_code=True))
    else:
        _tell_run(build.train(recipe=recipe))


@app.command
def resume(run: Path, /, *, trust_remote_code: Annotated[bool, FLAG] = False) -> None:
    """Go on with a run that was stopped, from its last checkpoint, as if it had never been stopped.

    Example: `sightline resume runs/dpo_world`

    Args:
        run: The run folder; RUN@120 goes back to the checkpoint of step 120 and drops what came after it.
        trust_remote_code: Run code that the folder's recipe brings or names: a model's own, rewards as module:function.
    """
    journal = Journal.open(run)
    source = str(journal.folder / "recipe.yaml")
    recipe = make_recipe(journal.recipe(), source=source)
    check_trust(recipe, trust_remote_code, source=source, own_code=False)
    check_present(recipe, source=source)
    from sightline import build

    _tell_run(build.resume(folder=run, trust_remote_code=trust_remote_code))


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How answers are drawn."""

    temperature: Annotated[float, NOT_NEGATIVE] = 0.0
    """0 takes the most likely token each time; 1 draws from the model's own distribution."""
    max_tokens: Annotated[int, AT_LEAST_ONE] = 256
    """Longest answer."""
    seed: Annotated[int, NOT_NEGATIVE] = 0
    """Decides the draws."""
    num: Annotated[int, AT_LEAST_ONE] = 1
    """Answers per model."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """What is measured on."""

    split: str = "test"
    """Which scenes: test, or a shifted split (pairs, crowd, canvas, ground, corrupt)."""
    scenes: Annotated[int, AT_LEAST_ONE] = 2000
    """How many; intervals shrink with the square root."""
    batch_size: Annotated[int, AT_LEAST_ONE] = 64
    """Prompts at a time; memory follows it, the numbers do not depend on it."""


@app.command
def sample(
    target: str,
    /,
    *,
    image: Annotated[tuple[Path, ...], SEVERAL] = (),
    prompt: str,
    draws: Draws | None = None,
    scorer: str | None = None,
    trust_remote_code: Annotated[bool, FLAG] = False,
) -> None:
    """Answer a prompt about images; for a run, the model before it answers beside the tuned one.

    Example: `sightline sample runs/dpo_world --image scene.png --prompt "What is in the picture?"`

    Best of eight: `sightline sample world:base --image scene.png --prompt "Describe." --temperature 1 --num 8 --scorer
    runs/reward_model_world`

    Args:
        target: A run folder (RUN@best, RUN@120 name a checkpoint), an exported model, `world:base` or a hub id.
        image: Image files, in the order in which the model reads them, before the prompt.
        prompt: What to ask.
        draws: How answers are drawn.
        scorer: Rate the answers and print the best first: the run folder of a reward model, a reward's name, or a
            reward as JSON.
        trust_remote_code: Run the model's own Python code; a run folder never allows it by itself.
    """
    for path in image:
        expect_file(path)
    draws = draws or Draws()
    from sightline import build

    answers = build.sample(
        target=build.Trusted(target) if trust_remote_code else target,
        images=list(image),
        prompt=prompt,
        temperature=draws.temperature,
        max_tokens=draws.max_tokens,
        seed=draws.seed,
        num=draws.num,
        scorer=None if scorer is None else build.scorer_of(scorer),
    )
    columns: dict[str, list[str]] = {}
    for label, rated in answers:
        columns.setdefault(label, []).append(rated.text)
        if scorer is not None:
            columns.setdefault(f"{label}'s rating", []).append("" if rated.value is None else f"{rated.value:.3f}")
    table = Table(*columns, show_lines=draws.num > 1)
    for row in zip_longest(*columns.values(), fillvalue=""):
        table.add_row(*map(cell, row))
    show(table)


@app.command
def evaluate(
    target: str,
    /,
    *,
    tasks: str = "describe,exist,count,detect,refer,read,refuse",
    on: Scenes | None = None,
    best_of: Annotated[int, AT_LEAST_ONE] = 1,
    scorer: str | None = None,
    trust_remote_code: Annotated[bool, FLAG] = False,
    json_out: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure a run or a model on drawn scenes, each number with its 95% interval.

    Example: `sightline evaluate runs/dpo_world --tasks describe,exist --scenes 500`

    Best of eight: `sightline evaluate world:base --tasks describe --best-of 8 --scorer runs/reward_model_world`

    Args:
        target: A run folder (RUN@best, RUN@120 name a checkpoint), an exported model, `world:base` or `world:ceiling`.
        tasks: Names with commas between them: detect, refer, count, exist, describe, read, refuse.
        on: What is measured on.
        best_of: Sample this many answers at temperature 1 and measure the one that `scorer` rates highest; 1 measures
            the greedy answer.
        scorer: Who chooses: the run folder of a reward model, a reward's name, or a reward as JSON.
        trust_remote_code: Run the model's own Python code; a run folder never allows it by itself.
        json_out: Write the numbers to this file too; `--json` without a file prints them as one JSON object instead.
    """
    on = on or Scenes()
    split, scenes, batch_size = on.split, on.scenes, on.batch_size
    names = [name.strip() for name in tasks.split(",")]
    for name in names:
        check_name("task", name)
    check_name("split", split)
    if (best_of > 1) != (scorer is not None):
        raise ConfigError("--best-of and --scorer go together: how many answers, and who chooses one")
    from sightline import build

    chooses = None if scorer is None else build.BestOf(num=best_of, scorer=build.scorer_of(scorer))
    found = build.evaluate(
        target=build.Trusted(target) if trust_remote_code else target,
        tasks=names,
        split=split,
        scenes=scenes,
        batch_size=batch_size,
        best_of=chooses,
    )
    rows = {task: {name: asdict(interval) for name, interval in ms.items()} for task, ms in found.items()}
    how = {"target": target, "split": split, "scenes": scenes, "best_of": best_of, "scorer": scorer}
    if json_out == ON_STDOUT:
        say_json(how | {"tasks": rows})
        return
    chosen = "" if scorer is None else f", best of {best_of} by {scorer}"
    table = Table("task", "metric", "value", "95% interval", title=cell(f"{target}, {scenes} {split} scenes{chosen}"))
    for task, metrics in found.items():
        for metric, interval in metrics.items():
            bounds = f"{interval.low:.3f} to {interval.high:.3f}"
            table.add_row(task, cell(metric), f"{interval.estimate:.3f}", bounds)
    show(table)
    if json_out is not None:
        atomic_write(json_out, json.dumps(how | {"tasks": rows}, indent=1) + "\n")


@app.command
def export(
    run: Path,
    out: Path,
    /,
    *,
    keep_adapter: Annotated[bool, FLAG] = False,
    figures: Path | None = None,
    push: str | None = None,
    public: Annotated[bool, FLAG] = False,
    trust_remote_code: Annotated[bool, FLAG] = False,
) -> None:
    """Write the tuned model of a run as an ordinary Hugging Face checkpoint, with processor and model card.

    Example: `sightline export runs/dpo_world models/aligned`

    With its figures, to a private repository on the Hugging Face hub: `sightline export runs/dpo_world models/aligned
    --figures numbers.json --push me/aligned`

    Args:
        run: The run folder.
        out: A folder that is not there yet.
        keep_adapter: Keep adapters apart instead of merging them into the weights; they name the base they belong on.
        figures: What `sightline evaluate RUN --json FILE` wrote, for the card.
        push: Upload the folder too, to this OWNER/NAME; needs a key (`hf auth login`, or HF_TOKEN).
        public: Whether a repository that is made for it is public.
        trust_remote_code: Run the model's own Python code; a run folder never allows it by itself.
    """
    if public and push is None:
        raise ConfigError("--public says who may see what --push uploads; add --push OWNER/NAME")
    Journal.open(run)
    expect_nothing(out)
    if figures is not None:
        expect_file(figures)
    from sightline import build

    numbers = None if figures is None else build.read_figures(figures)
    say(
        build.export(
            run=build.Trusted(run) if trust_remote_code else run,
            out=out,
            keep_adapter=keep_adapter,
            figures=numbers,
            push=push,
            public=public,
        )
    )
    if push is not None:
        say(f"https://huggingface.co/{push}")


@app.command
def report(run: Path, /) -> None:
    """Write the report of a run (curves, last numbers, sampled answers) as one page, from its folder alone.

    Example: `sightline report runs/dpo_world`

    Args:
        run: The run folder; the run may still be going.
    """
    from sightline.reports.run_report import write_run_report

    journal = Journal.open(run)
    if journal.which is not None:
        raise ConfigError(f"{run} names a checkpoint, and a report is of a whole run; name {journal.folder}")
    say(write_run_report(run))


@app.command
def demo(
    *,
    out: Path = Path("runs/demo"),
    seed: Annotated[int, NOT_NEGATIVE] = 0,
    scenes: Annotated[int, AT_LEAST_ONE] = 2000,
    quick: Annotated[bool, FLAG] = False,
) -> None:
    """Align the embedded model while you watch, and write a report with pictures and intervals.

    Base, preference pairs, SFT on the chosen answers, DPO, ceiling: all are measured on the same scenes.

    Example: `sightline demo --seed 1 --out runs/demo_1`

    Args:
        out: Where the report and the runs go.
        seed: Another seed draws other scenes and pairs; the same one gives the same numbers.
        scenes: Test scenes that all models are compared on.
        quick: Fewer pairs and scenes: a look in a minute, with wide intervals.
    """
    from sightline import build

    build.demo(out=out, seed=seed, scenes=scenes, quick=quick)


def recipes_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """`a.yaml --objective.beta 0.2 seed=1` as its recipes and its overrides (`objective.beta=0.2`)."""
    paths: list[str] = []
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            is_override = "=" in word and not Path(word).exists()
            (overrides if is_override else paths).append(word)
            continue
        key, equals, value = word.removeprefix("--").partition("=")
        flags = ["--dry-run", *(f"--{name}" for name in Recipe.model_fields)]
        if not word.startswith("--") or ("." not in key and f"--{key}" not in flags):
            raise ConfigError(f"unknown option {word}{option_meant(key, flags)}")
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise ConfigError(f"option {word} has no value; write it as {word} VALUE")
        overrides.append(f"{key}={value}")
    if not paths:
        raise ConfigError("no recipe is named; `sightline recipes list` shows those that are shipped")
    return paths, overrides


def option_meant(key: str, flags: Sequence[str]) -> str:
    """The end of an error about an option: the whole key that it stands for, by its last part or by what others call
    it, else a flag that is spelt alike."""
    name = key.replace("-", "_")
    known = KEYS.get(name)
    if known is None:
        keys = [whole for whole, _ in recipe_keys() if whole.rpartition(".")[2] == name]
        known = keys[0] if keys else None
    return did_you_mean(f"--{key}", flags) if known is None else f"; did you mean --{known}?"


def _tell_run(folder: Path) -> None:
    say(f"run: {folder}")
    values = recipe_of(str(folder)) or {}
    if values.get("objective", {}).get("kind") == "ranking":  # it rates answers and gives none
        say(f"next: sightline evaluate MODEL --best-of 8 --scorer {folder}; as a reward, see docs/reward_models.md")
    else:
        best, last = Journal(folder).best(), Journal(folder).latest()
        if best is not None and last is not None and step_of(last) != best:
            say(f"best checkpoint: {folder}@best (step {best}); {folder} alone is the last one")
        say(f"next: sightline sample {folder} --image FILE --prompt TEXT, sightline export {folder} OUT")
