"""Small runs in a folder: a saved tiny model, groups with pictures, a recipe; and what a finished run holds."""

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from sightline.config import Recipe, make_recipe, to_dict
from sightline.data.files import write_groups
from sightline.journal import Journal
from tests.tiny import tiny_groups, tiny_model, tiny_processor


def save_world(folder: Path, *, num_groups: int = 12) -> None:
    """A tiny model and preference data, as files."""
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    write_groups(folder / "train.jsonl", tiny_groups(num_groups))
    write_groups(folder / "validation.jsonl", tiny_groups(4, seed=1000))


def tiny_recipe(world: Path, out: Path, **blocks: Any) -> Recipe:
    """DPO of the whole language model with a kept reference, unless blocks say otherwise."""
    values: dict[str, Any] = {
        "name": "tiny",
        "out": str(out),
        "model": {"path": str(world / "model"), "train": "full", "dtype": "float32"},
        "data": {"files": [str(world / "train.jsonl")]},
        "objective": {"kind": "dpo", "beta": 0.5},
        "optim": {"learning_rate": 3e-3},
        "monitors": {"kl": None, "overfit": None, "accuracy_gap": None, "displacement": None},  # a few random pairs
        "train": {
            "steps": 12,
            "groups_per_step": 5,
            "save_every": 4,
            "samples": 0,
            "threads": 1,
            "token_budget": 60,
        },
    }
    for name, block in blocks.items():
        values[name] = block if name in ("objective", "rewards") else values.get(name, {}) | block
    return make_recipe(values)


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """The recipe as a file."""
    path.write_text(yaml.safe_dump(to_dict(recipe)))
    return path


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, optimiser and random state of a run's last checkpoint."""
    latest = Journal.open(folder).latest()
    assert latest is not None
    parts = sorted(latest.glob("*.safetensors"))
    return {f"{part.stem}/{name}": value for part in parts for name, value in load_file(part).items()}


def metrics_of(folder: Path) -> list[dict[str, float]]:
    """Every logged line without the times."""
    rows = Journal.open(folder).read_metrics()
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def assert_same_run(found: Path, wanted: Path) -> None:
    """Bit for bit the same weights, optimiser, random state and metrics, and both are done."""
    mine, theirs = tensors_of(found), tensors_of(wanted)
    assert mine.keys() == theirs.keys()
    assert not [name for name in theirs if not torch.equal(mine[name], theirs[name])]
    assert metrics_of(found) == metrics_of(wanted)
    assert Journal.open(found).read_samples() == Journal.open(wanted).read_samples()
    assert Journal.open(found).read_status()["state"] == Journal.open(wanted).read_status()["state"] == "done"
