"""From a study to its runs: files read, overrides laid on top, texts filled in, and what all of it will cost."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sightline.config import Recipe, make_recipe
from sightline.config.load import merge_blocks, override_tree, read_yaml
from sightline.config.mistakes import ConfigError, first_mistake
from sightline.registry import did_you_mean
from sightline.studies.checks import first_problem
from sightline.studies.schema import Arm, Study

LIBRARY = Path(__file__).parent / "library"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One run of a study. Example: arm "grpo", seed 1, in `runs/studies/kl/runs/grpo-1`."""

    arm: str
    """Name of its arm."""
    seed: int
    """Its seed."""
    folder: Path
    """Its run folder."""

    @property
    def name(self) -> str:
        """Arm and seed."""
        return f"{self.arm}-{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run will take, as far as its recipe says."""

    steps: int | None
    """Updates; None where the data decides."""
    answers: int
    """Answers that are sampled and judged."""
    seconds: float | None
    """By the study's measured speed."""


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in LIBRARY.glob("*.yaml"))


def load_study(name: str, overrides: Iterable[str] = (), *, quick: bool = False) -> Study:
    """A study by name or file, with `a.b=value` on top; `quick` lays its own small form over it first."""
    path = Path(name) if Path(name).is_file() else LIBRARY / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{name}: no such study{did_you_mean(name, study_names())}")
    values = read_yaml(path, str(name))
    if quick:
        values = merge_blocks(values, values.get("quick", {}))
    values = merge_blocks(values, override_tree(overrides))
    arms = values.get("arms")
    if isinstance(arms, dict):
        values["arms"] = {arm: block for arm, block in arms.items() if block is not None}
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        where, sentence = first_mistake(error, Study)
        raise ConfigError(f"{name}: {'.'.join(where)}: {sentence}") from error
    problem = first_problem(study)
    if problem is not None:
        raise ConfigError(f"{name}: {problem}")
    return study


def planned_runs(study: Study, out: Path) -> list[Planned]:
    """Every run of the grid, seed by seed, so that a part of the study is a whole comparison."""
    seeds = sorted({seed for arm in study.arms.values() for seed in seeds_of(study, arm)})
    found = []
    for seed in seeds:
        for name, arm in _in_order(study):
            if seed in seeds_of(study, arm):
                found.append(Planned(arm=name, seed=seed, folder=out / "runs" / f"{name}-{seed}"))
    return found


def seeds_of(study: Study, arm: Arm) -> Sequence[int]:
    """The seeds of an arm."""
    return study.seeds if arm.seeds is None else arm.seeds


def recipe_of(study: Study, planned: Planned, out: Path) -> Recipe:
    """The recipe of a run."""
    arm = study.arms[planned.arm]
    merged = merge_blocks(study.base, arm.recipe)
    if not merged.get("rewards") and "rollout" not in arm.recipe:
        merged.pop("rollout", None)  # how answers are sampled is said once for all arms that sample
    blocks = filled(merged, out=out, seed=planned.seed)
    return make_recipe(
        {"name": f"{study.name}-{planned.name}", "out": str(planned.folder), "seed": planned.seed, **blocks},
        source=f"study {study.name}, arm {planned.arm}",
    )


def filled(value: Any, *, out: Path, seed: int) -> Any:
    """The value with {out} and {seed} in its texts replaced."""
    if isinstance(value, str):
        return value.replace("{out}", str(out)).replace("{seed}", str(seed))
    if isinstance(value, Mapping):
        return {key: filled(inner, out=out, seed=seed) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, out=out, seed=seed) for inner in value]
    return copy.deepcopy(value)


def costs(study: Study, out: Path) -> dict[str, tuple[Sequence[int], Cost]]:
    """Seeds of every arm, and what one of its runs will take."""
    found = {}
    for name, arm in study.arms.items():
        seeds = seeds_of(study, arm)
        recipe = recipe_of(study, Planned(arm=name, seed=seeds[0], folder=out / "runs" / name), out)
        found[name] = (seeds, cost_of(study, recipe))
    for name, arm in study.arms.items():
        if arm.equal_compute is not None:
            seeds, cost = found[name]
            found[name] = (seeds, replace(cost, steps=None, seconds=found[arm.equal_compute][1].seconds))
    return found


def cost_of(study: Study, recipe: Recipe) -> Cost:
    """What a run will take."""
    steps = recipe.train.steps
    judged = 0
    if recipe.rewards and steps is not None:
        rollouts = steps / recipe.rollout.passes
        judged = round(rollouts * recipe.train.groups_per_step * recipe.rollout.group_size)
    speed = study.seconds_per_step.get(recipe.objective.kind)
    seconds = None if steps is None or speed is None else steps * speed
    return Cost(steps=steps, answers=judged, seconds=seconds)


def _in_order(study: Study) -> list[tuple[str, Arm]]:
    """Arms that others are scaled to come first."""
    return sorted(study.arms.items(), key=lambda item: item[1].equal_compute is not None)
