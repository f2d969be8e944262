"""What runs read: prompts, sampled answers, comparisons by somebody, models to build on; each made once.

A finished file has beside it what it was made from (`NAME.made.json`); where the study says otherwise by now, the study
refuses to go on, since what was built on the file would no longer fit.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline import build
from sightline.build.labels import choose_pairs, compared_by_reward
from sightline.build.loading import load_trained, make_inputs
from sightline.config import ConfigError, make_recipe
from sightline.data.files import read_groups, write_groups
from sightline.journal import Journal, atomic_write, recipe_of
from sightline.progress import Say, phase
from sightline.records import Group
from sightline.studies.plan import filled
from sightline.studies.schema import Annotator, Labels, Prompts, Samples, Step, Study, Trained
from sightline.world.annotators import Taste, annotate
from sightline.world.prompts import task_prompts

OTHERWISE = "give the changed study a folder of its own with --out, or remove what is there"


def prepare(study: Study, out: Path, *, say: Say) -> dict[str, Mapping[str, float]]:
    """Make what is missing, in the order of the study; returns what each file took: answers judged, seconds."""
    judged: dict[str, Mapping[str, float]] = {}
    for asked in study.prepare:
        step = _scaled(asked, study.scale)
        for seed in study.seeds if "{seed}" in step.out else (0,):
            description = filled(step.model_dump(), out=out, seed=seed)
            path = out / description["out"]
            made = _kept(path, description)
            if made is None:
                say(f"making {description['out']}")
                began = time.monotonic()
                with phase(f"making {description['out']}"):
                    counts = _make(type(step).model_validate(description), path, seed, say)
                made = counts | {"seconds": time.monotonic() - began}
                _keep(path, description, made)
            judged[str(path)] = made
    return judged


def _scaled(step: Step, scale: float) -> Step:
    if isinstance(step, Trained) or step.num is None:
        return step
    return step.model_copy(update={"num": max(1, round(step.num * scale))})


def _make(step: Step, path: Path, seed: int, say: Say) -> dict[str, float]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(step, Prompts):
        prompts = task_prompts(step.task, step.split, step.num, first=step.first)
        write_groups(path, (Group(prompt=prompt) for prompt in prompts))
        return {"prompts": step.num}
    if isinstance(step, Samples):
        return _sample(step, path, seed, say)
    if isinstance(step, Labels):
        return _label(step, path, seed)
    assert isinstance(step, Trained)
    values = {"name": path.name, "seed": seed, **step.recipe, "out": str(path)}
    build.train(make_recipe(values, source=f"prepare {path.name}"), say=say)
    return {}


def _sample(step: Samples, path: Path, seed: int, say: Say) -> dict[str, float]:
    loaded, _ = load_trained(step.model)
    groups = build.sample_groups(
        loaded,
        task_prompts(step.task, step.split, step.num, first=step.first),
        num=step.answers,
        max_tokens=step.max_tokens,
        seed=seed,
        temperature=step.temperature,
        batch_size=64,
    )
    write_groups(path, groups)
    say(f"{sum(len(group.completions) for group in groups)} different answers to {step.num} questions")
    return {"answers": step.num * step.answers}


def _label(step: Labels, path: Path, seed: int) -> dict[str, float]:
    source = path.parent / step.source
    groups = [group for _, group in read_groups(source)][: step.num]
    compared = compare(step, groups, source.parent, seed)
    kept = [chosen for group in compared if (chosen := choose_pairs(group, step.pairs)) is not None]
    write_groups(path, kept)
    return {"judged": sum(len(group.completions) for group in groups), "groups": len(kept)}


def compare(step: Labels, groups: Sequence[Group], root: Path, seed: int) -> list[Group]:
    """The groups with every comparison that the step's source makes."""
    if isinstance(step.by, Annotator):
        by = step.by
        taste = Taste(truth=by.truth, length=by.length, slip=by.slip, noise=by.noise)
        return [annotate(replace(group, signals=()), by.name, seed=seed, taste=taste) for group in groups]
    base, _ = load_trained("world:base")
    reader = make_inputs(base, root=root)
    return compared_by_reward(groups, step.by.reward, {group.prompt.id: reader for group in groups})


def _kept(path: Path, description: Mapping[str, Any]) -> Mapping[str, float] | None:
    """What a finished step left; None where it is yet to be made. One that was made otherwise is refused."""
    note = _note(path)
    if not note.is_file() or not path.exists():
        return None
    known = json.loads(note.read_text(encoding="utf-8"))
    if known["fingerprint"] != _fingerprint(description):
        raise ConfigError(f"{path} was made by another description; {OTHERWISE}")
    if recipe_of(path) is not None and Journal.open(path).read_status()["state"] != "done":
        return None
    return known["made"]


def _keep(path: Path, description: Mapping[str, Any], made: Mapping[str, float]) -> None:
    row = {"fingerprint": _fingerprint(description), "description": description, "made": dict(made)}
    atomic_write(_note(path), json.dumps(row, indent=1, default=str) + "\n")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.made.json")


def _fingerprint(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()
