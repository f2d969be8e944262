"""Pinned runs: a refactor moves no number. A change of behaviour writes them anew and says so in its commit:

python -m tests.train.test_traces
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sightline import build
from sightline.config import Recipe
from sightline.journal import Journal
from tests.train.runs import save_world, tiny_recipe

FOLDER = Path(__file__).parents[1] / "traces"
STEPS = {"steps": 20, "save_every": 7}
FAMILIES: dict[str, dict[str, Any]] = {
    "sft": {"model": {"train": "lora"}, "objective": {"kind": "sft"}},
    "dpo": {"objective": {"kind": "dpo", "beta": 0.5, "nll_weight": 0.1}},
}
PINNED = ("loss/total", "optim/grad_norm")


class Killed(Exception):
    """Stands for a kill in the middle."""


def recipe_of(family: str, world: Path, out: Path, *, token_budget: int = 60) -> Recipe:
    return tiny_recipe(world, out, **FAMILIES[family], train=STEPS | {"token_budget": token_budget})


def trace_of(folder: Path) -> dict[str, list[float]]:
    rows = Journal.open(folder).read_metrics()
    return {name: [row[name] for row in rows] for name in PINNED}


def quietly(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
    pass


def killed_at_ten(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
    if step == 10:
        raise Killed


def trace(recipe: Recipe) -> dict[str, list[float]]:
    return trace_of(build.train(recipe, say=lambda line: None, show=quietly))


def assert_pinned(family: str, found: dict[str, list[float]]) -> None:
    wanted = json.loads((FOLDER / f"{family}.json").read_text())
    assert len(wanted["loss/total"]) == STEPS["steps"]
    for name in PINNED:
        tolerance = 1e-4 if name == "loss/total" else 1e-3
        assert found[name] == pytest.approx(wanted[name], rel=tolerance)


@pytest.mark.parametrize("token_budget", [1, 60, 100_000])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pinned_run_is_repeated_however_its_steps_are_cut(
    family: str, token_budget: int, world: Path, tmp_path: Path
):
    assert_pinned(family, trace(recipe_of(family, world, tmp_path / "run", token_budget=token_budget)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pinned_run_is_repeated_across_a_resume(family: str, world: Path, tmp_path: Path):
    recipe = recipe_of(family, world, tmp_path / "run")
    with pytest.raises(Killed):
        build.train(recipe, say=lambda line: None, show=killed_at_ten)
    folder = build.resume(tmp_path / "run", say=lambda line: None, show=quietly)
    assert_pinned(family, trace_of(folder))


def write_traces() -> None:
    """Pin what the code does now."""
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder)
        save_world(world)
        for family in FAMILIES:
            found = trace(recipe_of(family, world, world / family))
            (FOLDER / f"{family}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write_traces()
