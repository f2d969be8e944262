"""The card of an exported model, README.md as hubs show it: where it comes from, how good it is, how it is loaded.

Everything stands in the run's folder, in what `sightline evaluate --json` wrote, or in the base model's own card; what
is not known is said to be unknown. Paths of the user's machine are not told: files go by their names.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from sightline import __version__
from sightline.bounded import Unreadable, parse_json, parse_yaml, read_text
from sightline.config import Recipe, to_dict
from sightline.journal import Journal, step_of
from sightline.world.weights import resolve

LONGEST_CARD = 2**20
_FRONT = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_NOT_TOLD = ("out", "trackers")
_LOADING = """```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{where}")
processor = AutoProcessor.from_pretrained("{where}")
```"""
_LOADING_ADAPTER = """```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{where}")
processor = AutoProcessor.from_pretrained("{where}")
```"""

Figures = Mapping[str, Any]
"""What `sightline evaluate --json` writes."""


def read_figures(path: Path) -> Figures:
    """The numbers of `sightline evaluate --json`; ValueError for another file."""
    cure = "give a file that `sightline evaluate RUN --json FILE` wrote"
    try:
        found = parse_json(read_text(path, limit=LONGEST_CARD))
        for metrics in found["tasks"].values():
            for value in metrics.values():
                assert all(isinstance(value[name], int | float) for name in ("estimate", "low", "high"))
        assert all(isinstance(found[name], str | int) for name in ("target", "split", "scenes"))
    except (Unreadable, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{path} holds no figures of an evaluation; {cure}") from error
    return found


def is_hub_id(path: str) -> bool:
    """Whether a model's path names one on a hub, and no folder here."""
    return _HUB_ID.fullmatch(path) is not None and not Path(path).exists()


def model_card(
    recipe: Recipe, journal: Journal, checkpoint: Path, *, where: str, adapter: bool, figures: Figures | None = None
) -> str:
    """The card; `where` is what people load it by, a folder's name or an id on a hub."""
    base = recipe.model.path
    licence = licence_of(base)
    parts = [
        _front(base, licence, adapter),
        f"# {recipe.name}\n",
        f"{_kind(recipe)}, aligned by [Sightline](https://pypi.org/project/sightline/) {__version__}: "
        f"{'adapters on' if adapter else 'the whole model, from'} `{_told(base)}`, as it was after update "
        f"{step_of(checkpoint)}.\n",
        "## Loading\n",
        (_LOADING_ADAPTER if adapter else _LOADING).format(where=where, base=_told(base)) + "\n",
        "## Figures\n",
        *_figures(journal, step_of(checkpoint), figures),
        "## Base and licence\n",
        f"- Base: `{_told(base)}`" + (f", revision `{recipe.model.revision}`" if recipe.model.revision else ""),
        f"- Licence of the base: {licence or 'not known here; look at its own card'}. It holds for this model too, "
        "beside that of the data.\n",
        "## Data\n",
        *(f"- `{_told(str(file))}`" for file in recipe.data.files),
        *(f"- `{_told(str(file))}`, for validation alone" for file in recipe.data.validation_files),
        "\n## Recipe\n",
        f"```yaml\n{_recipe_text(recipe)}```\n",
    ]
    return "\n".join(parts)


def licence_of(base: str) -> str | None:
    """The licence that the base model's own card names; nothing is fetched."""
    if base.startswith("world:"):
        return "apache-2.0"  # our own, as CARD.md beside the weights says
    try:
        front = _FRONT.match(read_text(Path(resolve(base)) / "README.md", limit=LONGEST_CARD))
        values = parse_yaml(front[1]) if front is not None else None
    except (OSError, Unreadable):
        return None
    found = values.get("license") if isinstance(values, dict) else None
    return found if isinstance(found, str) and re.fullmatch(r"[\w.+-]{1,60}", found) else None


def _front(base: str, licence: str | None, adapter: bool) -> str:
    """What hubs read."""
    values: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["sightline", "alignment", *(["lora"] if adapter else [])],
    }
    if is_hub_id(base):
        values |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    if licence is not None:
        values["license"] = licence
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def _kind(recipe: Recipe) -> str:
    rewards = ", ".join(str(entry.label or entry.name) for entry in recipe.rewards)
    return f"A vision-language model trained by `{recipe.objective.kind}`" + (
        f" on rewards ({rewards})" if rewards else ""
    )


def _figures(journal: Journal, step: int, figures: Figures | None) -> list[str]:
    lines = []
    if figures is not None:
        lines += [
            f"Measured by `sightline evaluate` on {figures['scenes']} drawn scenes ({figures['split']}), with 95% "
            "intervals:\n",
            "| task | metric | value | 95% interval |",
            "|---|---|---|---|",
            *(
                f"| {task} | {name} | {value['estimate']:.3f} | {value['low']:.3f} to {value['high']:.3f} |"
                for task, metrics in figures["tasks"].items()
                for name, value in metrics.items()
            ),
            "",
        ]
    rows = [row for row in journal.read_metrics() if row["step"] <= step]
    held_out = {name: value for row in rows for name, value in row.items() if name.startswith("validation/")}
    if held_out:
        lines += [
            "On the run's validation rows, as training saw them last (no intervals):\n",
            "| metric | value |",
            "|---|---|",
        ]
        lines += [*(f"| {name} | {value:.4g} |" for name, value in held_out.items()), ""]
    return lines or ["None were taken: `sightline evaluate` measures, and `export --figures FILE` writes them here.\n"]


def _recipe_text(recipe: Recipe) -> str:
    """The resolved recipe, without what is of the user's machine alone."""
    values = {name: value for name, value in to_dict(recipe).items() if name not in _NOT_TOLD}
    return yaml.safe_dump(_without_folders(values), sort_keys=False, allow_unicode=True)


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    return _told(value) if isinstance(value, str) and "\n" not in value else value


def _told(path: str) -> str:
    """A path as it may be published: an absolute one by its last name."""
    return PurePosixPath(path).name if path.startswith(("/", "~")) else path


def as_json(figures: Figures) -> str:
    """The figures as a file beside the card."""
    return json.dumps(figures, indent=1) + "\n"
