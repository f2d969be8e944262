"""Where metrics go besides the run folder: TensorBoard and Weights & Biases, when they are installed."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Track = Callable[[int, Mapping[str, float]], None]


def open_trackers(names: Sequence[str], *, folder: Path, run: str, recipe: Mapping[str, Any]) -> list[Track]:
    """One function per tracker that takes a step and its metrics."""
    makers = {"tensorboard": _tensorboard, "wandb": _wandb}
    return [makers[name](folder, run, recipe) for name in names]


def _tensorboard(folder: Path, run: str, recipe: Mapping[str, Any]) -> Track:
    writer = _import("torch.utils.tensorboard", "tensorboard").SummaryWriter(log_dir=str(folder / "tensorboard"))

    def track(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def _wandb(folder: Path, run: str, recipe: Mapping[str, Any]) -> Track:
    session = _import("wandb", "wandb").init(name=run, dir=str(folder), config=dict(recipe), resume="allow", id=run)
    return lambda step, metrics: session.log(dict(metrics), step=step)


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"tracking: {package} is not installed; run pip install {package} or remove it") from error
