"""The demo: a small model's failings, preferences from a simulated person, DPO, then boxes from a rule (demo_boxes).

Everything goes through the public path: sampled groups are written to disk, recipes train on them, the runs are
loaded and judged like any model. What is compared: the base, SFT on the chosen answers at equal compute, DPO, and
the ceiling (the model before it was badly taught).
"""

import json
import resource
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console

from sightline.build.commands import sample_groups
from sightline.build.demo_box_page import box_act_of
from sightline.build.demo_boxes import KEPT, BoxSettings, box_line, box_summary, second_act
from sightline.build.demo_page import write_page
from sightline.build.labels import balanced, wrong_shares
from sightline.build.loading import load_trained, make_inputs
from sightline.build.runs import train
from sightline.config import make_recipe
from sightline.data.files import write_groups
from sightline.evaluation.run import Judged, judge_task
from sightline.evaluation.statistics import (
    Interval,
    Ratio,
    absolute_change,
    gap_closed,
    ratio,
    relative_change,
)
from sightline.journal import Journal, atomic_write
from sightline.models.reading import reading_policy
from sightline.progress import phase, shown
from sightline.records import Group
from sightline.train.feeds import imitated
from sightline.world.annotators import annotate
from sightline.world.prompts import task_prompts
from sightline.world.tasks import find_task, naming

ROWS = ("base", "sft", "dpo", "ceiling")
READ = "features-read"
"""Folder of the features of test scenes, while the demo lasts."""
OTHER_TASKS = ("exist", "count", "detect", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes of the demo; the defaults were chosen by measurement (docs/demo.md)."""

    train_scenes: int = 2000
    """Scenes whose descriptions are sampled and judged."""
    answers_per_scene: int = 6
    """Sampled answers for each."""
    test_scenes: int = 2000
    """Scenes that all four models describe."""
    other_scenes: int = 500
    """Scenes for each of the other tasks."""
    epochs: int = 1
    """Passes of DPO over the pairs."""
    learning_rate: float = 5e-5
    """Peak for DPO and SFT alike."""
    beta: float = 0.05
    """DPO's beta."""
    nll_weight: float = 0.0
    """Weight of the likelihood anchor on chosen answers."""
    label_smoothing: float = 0.1
    """Share of labels taken as wrong; the person errs as often."""
    groups_per_step: int = 16
    """Pairs in a step."""
    boxes: BoxSettings = field(default_factory=BoxSettings)
    """Sizes of the second act."""


QUICK = Settings(
    train_scenes=128,
    answers_per_scene=4,
    test_scenes=200,
    other_scenes=50,
    boxes=BoxSettings(steps=8, test_scenes=100, described_scenes=50),
)


def demo(*, out: Path, seed: int = 0, scenes: int = 2000, quick: bool = False, console: Console | None = None) -> Path:
    """Run the whole demo into `out`; returns the report's path."""
    with shown() as progress:
        return _demo(out=out, seed=seed, scenes=scenes, quick=quick, console=console or progress.console)


def _demo(*, out: Path, seed: int, scenes: int, quick: bool, console: Console) -> Path:
    began, cpu_began = time.monotonic(), _cpu_seconds()
    settings = replace(QUICK, test_scenes=min(scenes, 200)) if quick else Settings(test_scenes=scenes)
    out.mkdir(parents=True, exist_ok=True)
    _heading(console, 1, "A small vision-language model, able and badly taught")
    with phase("a first look"):
        _show_failings(console, seed)
    _heading(console, 2, "Its own answers, compared by a simulated person (one comparison in ten is wrong)")
    pairs = collect_pairs(settings, seed=seed, out=out, console=console)
    _heading(console, 3, "DPO on the pairs, and SFT on the chosen answers at equal compute")
    again = f"sightline demo --out {quote(str(out))} --seed {seed}"
    again += " --quick" if quick else f" --scenes {scenes}"
    runs = train_both(settings, pairs, seed=seed, out=out, go_on=again)
    _heading(console, 4, f"All four models describe the same {settings.test_scenes} test scenes")
    targets = {"base": "world:base", **runs, "ceiling": "world:ceiling"}
    judged = judge_all(settings, targets, shelf=out / READ, console=console)
    with phase("comparing"):
        results = compare(judged, seed=seed)
    _heading(console, 5, "Second act: boxes, learned from a rule that looks at them")
    boxes = out / "boxes"
    played = second_act(
        settings.boxes, aligned=runs["dpo"], seed=seed, out=boxes, shelf=out / READ, console=console, go_on=again
    )
    summary = _summary(
        results,
        seed=seed,
        settings=settings,
        seconds=time.monotonic() - began,
        cpu_seconds=_cpu_seconds() - cpu_began,
    )
    summary |= {"arithmetic": arithmetic_of(runs["dpo"]), "boxes": box_summary(played, seed=seed)}
    lines = last_lines(summary, out / "report.html")
    report = write_page(
        out / "report.html",
        judged,
        results,
        curves={row: Path(folder) for row, folder in runs.items()},
        settings=_described(settings, summary, runs["dpo"]),
        seed=seed,
        lines=lines,
        boxes=box_act_of(played, seed=seed),
    )
    summary |= {"seconds": time.monotonic() - began, "cpu_seconds": _cpu_seconds() - cpu_began}
    for folder in (out / KEPT, out / READ, boxes / KEPT):
        shutil.rmtree(folder, ignore_errors=True)  # some hundred MiB that are made again within a minute
    atomic_write(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    console.print()
    for line in last_lines(summary, report):
        console.print(line, highlight=False, soft_wrap=True)
    return report


def collect_pairs(settings: Settings, *, seed: int, out: Path, console: Console) -> Path:
    """Sampled descriptions of training scenes with one pair each, written as a data file."""
    base, _ = load_trained("world:base")
    prompts = task_prompts("describe", "train", settings.train_scenes, seed=seed)
    groups = sample_groups(base, prompts, num=settings.answers_per_scene, max_tokens=64, seed=seed, batch_size=64)
    kept = [pair for group in groups if (pair := balanced(annotate(group, "person", seed=seed))) is not None]
    path = out / "pairs.jsonl"
    write_groups(path, kept)
    console.print(
        f"{len(kept)} of {len(groups)} scenes gave a pair won by the shorter answer and one won by the longer; "
        f"{_errors(wrong_shares(kept))}",
        highlight=False,
        soft_wrap=True,
    )
    example = kept[0]
    for word, i in (("chosen", 0), ("rejected", 1)):
        console.print(f"  {word:>8}: {_marked(example.completions[i].text, example.prompt.truth)}")
    return path


def _errors(wrong: Mapping[str, float]) -> str:
    """How many of the pairs are wrong: more than the person errs, since a scene must give one of each kind."""
    kinds = [
        f"{wrong[kind]:.0%} of those that the {kind} answer wins" for kind in ("longer", "shorter") if kind in wrong
    ]
    return f"{wrong['all']:.0%} of them are wrong ({', '.join(kinds)})"


def train_both(settings: Settings, pairs: Path, *, seed: int, out: Path, go_on: str) -> dict[str, str]:
    """Run folders of SFT and DPO at equal compute: a DPO pass costs a reference and two answers, SFT gets more."""
    folders = {}
    for row in ("dpo", "sft"):
        with phase(row.upper()):
            recipe = make_recipe(_recipe(settings, row, pairs, seed=seed, out=out))
            folders[row] = str(train(recipe, go_on=go_on))
    return {"sft": folders["sft"], "dpo": folders["dpo"]}


def _recipe(settings: Settings, row: str, pairs: Path, *, seed: int, out: Path) -> dict[str, Any]:
    epochs = float(settings.epochs)
    objective: dict[str, Any] = {
        "kind": "dpo",
        "beta": settings.beta,
        "nll_weight": settings.nll_weight,
        "label_smoothing": settings.label_smoothing,
    }
    if row == "sft":
        objective = {"kind": "sft"}
        epochs *= equal_compute(pairs)
    return {
        "name": f"demo-{row}",
        "out": str(out / row),
        "seed": seed,
        "model": {"path": "world:base", "train": "full", "features_folder": str(out / KEPT)},
        "data": {"files": [str(pairs)]},
        "objective": objective,
        "optim": {"learning_rate": settings.learning_rate, "warmup_fraction": 0.1},
        "train": {
            "epochs": epochs,
            "groups_per_step": settings.groups_per_step,
            "token_budget": 16384,
            "save_every": 1000,
            "threads": torch.get_num_threads(),
        },
    }


def equal_compute(pairs: Path) -> float:
    """Passes of SFT that cost as many language-model tokens as one pass of DPO with its reference.

    Forward and backward count three, the reference's forward one; the prompt is shared by both answers.
    """
    base, _ = load_trained("world:base")
    inputs = make_inputs(base)
    sft = dpo = 0
    for group in _read(pairs):
        prompt = len(inputs.prompt(group.prompt).ids)
        lengths = [len(inputs.answer(completion)) - 1 for completion in group.completions]
        sft += 3 * (prompt + sum(lengths[i] for i in imitated(group)))
        dpo += 4 * (prompt + sum(lengths))
    return dpo / sft


def _read(path: Path) -> list[Group]:
    return [Group.from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judge_all(
    settings: Settings, targets: Mapping[str, str], *, shelf: Path, console: Console
) -> dict[str, dict[str, Judged]]:
    """Greedy answers of every model to the same prompts, by task and row."""
    sizes = {"describe": settings.test_scenes} | dict.fromkeys(OTHER_TASKS, settings.other_scenes)
    prompts = {task: task_prompts(task, "test", size) for task, size in sizes.items()}
    found: dict[str, dict[str, Judged]] = {task: {} for task in prompts}
    for row, target in targets.items():
        loaded, _ = load_trained(target)
        policy = reading_policy(loaded, shelf=shelf)
        inputs = make_inputs(loaded)
        with phase(f"{row} answers"):
            for task, asked in prompts.items():
                found[task][row] = judge_task(policy, inputs, find_task(task), asked)
        scores = found["describe"][row].ratios()
        rates = {name: float(r.numerator.sum() / r.denominator.sum()) for name, r in scores.items()}
        console.print(
            f"  {row:>8}: {rates['hallucination']:.1%} of mentioned objects are not there, "
            f"{rates['coverage']:.1%} of those present are named",
            highlight=False,
        )
    return found


def compare(judged: Mapping[str, Mapping[str, Judged]], *, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """For each metric of the description task: per row the value, its change against base, and the gap closed."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, change in (("hallucination", relative_change), ("coverage", absolute_change)):
        ratios: dict[str, Ratio] = {row: judged["describe"][row].ratios()[name] for row in ROWS}
        values: dict[str, Interval] = {row: ratio(ratios[row], seed=seed) for row in ROWS}
        changes = {row: change(ratios["base"], ratios[row], seed=seed) for row in ROWS[1:]}
        closed = {row: _gap(ratios, row, seed) for row in ("sft", "dpo")}
        found[name] = {"values": values, "change": changes, "gap_closed": closed}
    return found


def _gap(ratios: Mapping[str, Ratio], row: str, seed: int) -> Interval | None:
    try:
        return gap_closed(ratios["base"], ratios[row], ratios["ceiling"], seed=seed)
    except ValueError:
        return None


def _summary(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    seed: int,
    settings: Settings,
    seconds: float,
    cpu_seconds: float,
) -> dict[str, Any]:
    metrics: dict[str, dict[str, Any]] = {}
    for name, found in results.items():
        values, change, closed = found["values"], found["change"]["dpo"], found["gap_closed"]["dpo"]
        kind = "relative_change" if name == "hallucination" else "absolute_change"
        metrics[name] = {
            "base": values["base"].estimate,
            "sft": values["sft"].estimate,
            "aligned": values["dpo"].estimate,
            "ceiling": values["ceiling"].estimate,
            "gap_closed": None if closed is None else closed.estimate,
            "gap_closed_sft": None if found["gap_closed"]["sft"] is None else found["gap_closed"]["sft"].estimate,
            kind: change.estimate,
            "ci95": [change.low, change.high],
        }
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "seed": seed,
        "scenes": settings.test_scenes,
        "metrics": metrics,
    }


def last_lines(summary: Mapping[str, Any], report: Path) -> tuple[str, ...]:
    """The demo's last words."""
    bad, good = summary["metrics"]["hallucination"], summary["metrics"]["coverage"]
    low, high = bad["ci95"]
    better, best = good["ci95"]
    minutes = summary["cpu_seconds"] / 60
    return (
        f"before:   {bad['base']:.1%} of mentioned objects are not there; "
        f"{good['base']:.1%} of those present are named",
        f"after:    {bad['aligned']:.1%} are not there; {good['aligned']:.1%} are named",
        f"change:   {bad['relative_change']:+.0%} hallucinated objects (95% interval {low:+.0%} to {high:+.0%}); "
        f"coverage {100 * good['absolute_change']:+.1f} points ({100 * better:+.1f} to {100 * best:+.1f})",
        box_line(summary["boxes"]),
        f"time:     {summary['seconds']:.0f} s, {minutes:.1f} CPU minutes, {summary['peak_memory_gib']:.1f} GiB",
        f"report:   {report}",
    )


def arithmetic_of(run: str) -> str:
    """What a run computed in, as its own recipe keeps it."""
    return str(Journal.open(run).recipe()["model"]["dtype"])


def _described(settings: Settings, summary: Mapping[str, Any], run: str) -> dict[str, str]:
    """What a reader needs to repeat it."""
    packages = json.loads((Path(run) / "environment.json").read_text())["packages"]
    return {
        "seed": str(summary["seed"]),
        "training scenes": f"{settings.train_scenes}, {settings.answers_per_scene} sampled answers each",
        "test scenes": f"{settings.test_scenes} for descriptions, {settings.other_scenes} for each other task",
        "DPO": f"beta {settings.beta}, label smoothing {settings.label_smoothing}, "
        f"learning rate {settings.learning_rate:g}, {settings.epochs} pass(es), full fine-tuning of the language model",
        "arithmetic": f"{summary['arithmetic']}, {torch.get_num_threads()} threads",
        "versions": ", ".join(f"{name} {packages[name]}" for name in ("sightline", "torch", "transformers")),
    }


def _show_failings(console: Console, seed: int) -> None:
    base, _ = load_trained("world:base")
    policy = reading_policy(base)
    prompts = task_prompts("describe", "validation", 40, seed=seed)
    judged = judge_task(policy, make_inputs(base), find_task("describe"), prompts)
    wrong = [i for i, scores in enumerate(judged.scores) if scores["hallucination"][0] > 0][:3]
    for i in wrong:
        facts = prompts[i].truth
        console.print(f"  in the picture: {', '.join(item['label'] for item in facts['objects'])}", highlight=False)
        console.print(f"  the model says: {_marked(judged.answers[i], facts)}\n")


def _marked(text: str, facts: Mapping[str, Any]) -> str:
    """The answer with absent objects in red."""
    pieces, last = [], 0
    for mention in naming(text, facts).absent:
        pieces += [
            _plain(text[last : mention.start]),
            f"[bold red]{_plain(text[mention.start : mention.end])}[/]",
        ]
        last = mention.end
    return "".join([*pieces, _plain(text[last:])])


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _heading(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold]{number}. {text}[/]")


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
