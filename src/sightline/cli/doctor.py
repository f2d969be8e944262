"""Commands that look before a run: doctor (is it going to work?) and plan (what will it need?)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sightline.cli.parts import AT_LEAST_ONE, JSON, app, cell, say, say_json, show
from sightline.cli.runs import recipes_and_overrides
from sightline.config import ConfigError, check_present, load_recipe

if TYPE_CHECKING:
    from sightline.build.plan import Planned
    from sightline.reports.doctor_page import Line

WORDS = Parameter(name="RECIPE", allow_leading_hyphen=True)
MARKS = {"pass": "pass", "look": "look", "fail": "FAIL", "skip": "-"}


@app.command
def doctor(
    *words: Annotated[str, WORDS],
    page: Path | None = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Look at a run before it is made: its model, its data, its rewards, each line pass or what is wrong and its cure.

    Takes what `sightline train` takes, trains nothing and leaves the run folder alone. Exit status 0: nothing is wrong;
    1: something is (the lines with FAIL). docs/doctor.md explains every line.

    Example: `sightline doctor recipes/dpo_world.yaml`

    Args:
        words: Recipes and overrides, as for train.
        page: Where the page with the pictures goes; by default beside the run folder.
        as_json: Print one JSON object instead: the lines, the page, how many failed.
    """
    paths, overrides = recipes_and_overrides(words)
    recipe = load_recipe(paths, overrides)
    check_present(recipe, source=paths[-1])
    path = page or Path(f"{recipe.out}-doctor.html")
    if path.is_dir():
        raise ConfigError(f"--page: {path} is a folder; name a file")
    from sightline import build

    lines = build.doctor(recipe=recipe, page=path, tell=_unsaid if as_json else _tell)
    wrong = sum(line.state == "fail" for line in lines)
    if as_json:
        say_json({"name": recipe.name, "lines": [asdict(line) for line in lines], "failed": wrong, "page": str(path)})
        return 1 if wrong else 0
    say(f"page: {path}")
    say(f"{wrong} of {len(lines)} checks failed" if wrong else "nothing is wrong")
    return 1 if wrong else 0


@app.command
def plan(
    *words: Annotated[str, WORDS],
    gpus: Annotated[int | None, AT_LEAST_ONE] = None,
    gpu: Literal["h100", "h200", "a100", "a100-40", "l40s", "a6000", "4090"] | None = None,
    prompt_tokens: Annotated[int | None, AT_LEAST_ONE] = None,
    answer_tokens: Annotated[int | None, AT_LEAST_ONE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Say what a run will need, memory by part and seconds per step, from config and data alone; no weight is read.

    Exit status 1 when it does not fit. How near the numbers are is in docs/doctor.md.

    Example: `sightline plan recipes/dpo_llava_1_5_7b_lora.yaml --gpus 4 --gpu a100`

    Args:
        words: Recipes and overrides, as for train.
        gpus: GPUs, a process each; without this and --gpu, the machine that this runs on.
        gpu: Their kind; by default that of this machine, or else a100 with 80 GiB.
        prompt_tokens: Tokens of a prompt, images included; by default measured on the first rows.
        answer_tokens: Tokens of an answer; by default measured, or for sampled answers half of rollout.max_tokens.
        as_json: Print one JSON object instead.
    """
    paths, overrides = recipes_and_overrides(words)
    recipe = load_recipe(paths, overrides)
    try:
        check_present(recipe, source=paths[-1])
    except ConfigError as error:
        if prompt_tokens is None or answer_tokens is None or recipe.train.steps is None:
            more = "without the files give --prompt-tokens, --answer-tokens and --train.steps"
            raise ConfigError(f"{error}; {more}") from error
    from sightline import build

    found = build.plan(recipe=recipe, gpus=gpus, gpu=gpu, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
    if as_json:
        say_json({"name": recipe.name} | asdict(found) | {"fits": found.fits})
    else:
        _show_plan(recipe.name, found)
    return 0 if found.fits else 1


def _unsaid(line: "Line") -> None:
    """It comes with all others."""


def _tell(line: "Line") -> None:
    say(f"{MARKS[line.state]:<5}{line.name:<16}{line.said}")
    if line.cure:
        say(f"{'':<21}what to do: {line.cure}")


def _show_plan(name: str, found: "Planned") -> None:
    per = " per GPU" if found.machine.kind == "cuda" else ""
    table = Table("part", f"MiB{per}", title=cell(f"{name} on {found.machine.name}"))
    for part, size in found.estimate.memory.items():
        if size:
            table.add_row(part, f"{size / 2**20:,.0f}")
    table.add_section()
    table.add_row("at the peak", f"{found.estimate.peak / 2**20:,.0f}")
    show(table)
    table = Table("part of a step", "seconds")
    for part, seconds in found.estimate.seconds.items():
        table.add_row(part, f"{seconds:.3g}")
    table.add_section()
    table.add_row("a step", f"{found.estimate.step:.3g}")
    show(table)
    for note in found.notes:
        say(note)
