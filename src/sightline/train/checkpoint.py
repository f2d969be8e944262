"""What a checkpoint holds, so that going on from it gives bit for bit what would have come.

Trained weights, optimiser state, random state and positions, as safetensors and JSON; nothing is pickled. How a
folder appears whole or not at all is the journal's business.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.models.sharding import cut_like, whole
from sightline.run_files import RunError, check_row, read_json
from sightline.train.engine import Engine

REMOVE = "remove this checkpoint's folder, then the run goes on from the one before"

WEIGHTS, OPTIMISER, RANDOM, FEED, STATE = (
    "weights.safetensors",
    "optimiser.safetensors",
    "random.safetensors",
    "feed.safetensors",
    "state.json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was learned so far, whole and on CPU."""

    weights: dict[str, Tensor]
    """Trained parameters by name."""
    optimiser: dict[str, Tensor]
    """Its state, by the parameter's name and the state's."""


def learned(engine: Engine, trained: Mapping[str, nn.Parameter], *, keep: bool = True) -> Learned:
    """The weights and the optimiser's state; where they are cut over processes all must ask, and one keeps them."""
    found = Learned(weights={}, optimiser={})
    for name, parameter in trained.items():
        _put(found.weights, name, parameter, keep)
        for key, value in engine.optimiser.state.get(parameter, {}).items():
            _put(found.optimiser, f"{name}/{key}", value, keep)
    return found


def _put(held: dict[str, Tensor], name: str, value: Tensor, keep: bool) -> None:
    together = whole(value.detach())
    if keep:
        held[name] = together.cpu().contiguous()


def write_state(
    folder: Path, engine: Engine, learned: Learned, facts: Mapping[str, Any], feed: Mapping[str, Tensor]
) -> None:
    """Fill a checkpoint folder; `facts` are plain JSON (the feed's position, the best validation so far), `feed` are
    the tensors of a rollout that is not used up."""
    save_file(learned.weights, folder / WEIGHTS)
    save_file(learned.optimiser, folder / OPTIMISER)
    save_file({"torch": torch.get_rng_state()}, folder / RANDOM)
    if feed:
        save_file({name: value.contiguous() for name, value in feed.items()}, folder / FEED)
    state = {"step": engine.step, "bad_steps": engine.bad_steps, "facts": dict(facts)}
    (folder / STATE).write_text(json.dumps(state, indent=1))


def read_state(
    folder: Path, engine: Engine, trained: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put engine, weights and random state where the checkpoint left them; returns its facts and the feed's tensors."""
    read_weights(folder, trained)
    tensors = read_tensors(folder / OPTIMISER)
    for name, parameter in trained.items():
        kept = {
            key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}/{key}" in tensors
        }
        for key, value in kept.items():
            if key != "step" and value.shape != parameter.shape:
                raise RunError(f"{folder / OPTIMISER}: {name}/{key} has another shape than the parameter; {REMOVE}")
        if kept:
            moved = {key: cut_like(value, parameter) if key != "step" else value for key, value in kept.items()}
            engine.optimiser.state[parameter] = moved
    state = read_json(folder / STATE)
    check_row(state, {"step": int, "bad_steps": int, "facts": dict}, str(folder / STATE), folder / STATE)
    try:
        torch.set_rng_state(read_tensors(folder / RANDOM)["torch"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{folder / RANDOM}: holds no random state; {REMOVE}") from error
    engine.step, engine.bad_steps = state["step"], state["bad_steps"]
    return state["facts"], read_tensors(folder / FEED) if (folder / FEED).exists() else {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; RunError for one that holds none that can be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        why = " ".join(str(error).split())
        raise RunError(f"{path}: holds no tensors that can be read ({why}); {REMOVE}") from error


def read_weights(folder: Path, trained: Mapping[str, nn.Parameter], *, without: tuple[str, ...] = ()) -> None:
    """Trained weights alone, for sampling and export; those whose names begin with one of `without` are left there."""
    weights = read_tensors(folder / WEIGHTS)
    weights = {name: value for name, value in weights.items() if not name.startswith(without)}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    wanted = {name: tuple(parameter.shape) for name, parameter in trained.items()}
    if shapes != wanted:
        odd = next(n for n in sorted({*shapes, *wanted}) if shapes.get(n) != wanted.get(n))
        sides = f"{odd!r} has the shape {shapes.get(odd)} there and {wanted.get(odd)} here"
        raise ValueError(f"{folder} does not fit the run's model: {sides}; was the recipe changed?")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(cut_like(weights[name], parameter))
