"""The demo's second act: from the model of the first, GRPO on boxes with Vision-R1's rule, and an honest comparison.

Three quarters of the prompts ask for boxes, which the rule scores; a quarter asks for descriptions, scored by a rule of
their own, so that what the first act taught is not lost. SFT sees exact answers to the same prompts at equal compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from sightline.build.export import export
from sightline.build.loading import load_trained, make_inputs
from sightline.build.runs import train
from sightline.config import make_recipe
from sightline.data.files import write_groups
from sightline.evaluation.gain import BoxGain, box_gain
from sightline.evaluation.metrics import average_precision_draws, interval_of_draws
from sightline.evaluation.run import Judged, judge_task
from sightline.evaluation.statistics import Interval, absolute_change, ratio
from sightline.journal import Journal
from sightline.models.reading import reading_policy
from sightline.progress import phase
from sightline.records import Group
from sightline.world.prompts import exact_group, task_prompts
from sightline.world.tasks import find_task, make_question

ROWS = ("start", "sft_boxes", "grpo", "ceiling")
KEPT = "features"
"""Folder of the features of training scenes, which two runs share while the demo lasts."""
FIRST_SCENE = 100_000
"""Scenes of the second act lie behind those of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSettings:
    """Sizes of the second act; the defaults were chosen by measurement (docs/demo.md)."""

    steps: int = 100
    """Updates of GRPO."""
    prompts: int = 16
    """Prompts in an update."""
    answers: int = 8
    """Sampled answers to each."""
    share_described: float = 0.25
    """Of the prompts, those that ask for a description."""
    learning_rate: float = 5e-5
    """Of GRPO and SFT alike."""
    test_scenes: int = 1000
    """Scenes in which all models are asked for boxes."""
    described_scenes: int = 500
    """Scenes that they describe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What the second act gave."""

    judged: dict[str, dict[str, Judged]]
    """By task and row."""
    runs: dict[str, Path]
    """Run folders by row."""
    map_draws: dict[str, NDArray[np.float64]]
    """mAP of every row, over all scenes and over the same resamples of them."""
    gain: BoxGain
    """What GRPO's gain consists of."""

    def mean_average_precision(self, row: str) -> Interval:
        """mAP of a row."""
        return interval_of_draws(self.map_draws[row])

    def relative_change(self, row: str) -> Interval:
        """Of mAP, against the start."""
        return interval_of_draws(self.map_draws[row] / self.map_draws["start"] - 1)

    def gap_closed(self, row: str) -> Interval:
        """Share of the way from the start to the ceiling."""
        start, ceiling = self.map_draws["start"], self.map_draws["ceiling"]
        return interval_of_draws((self.map_draws[row] - start) / (ceiling - start))


def second_act(
    settings: BoxSettings, *, aligned: str, seed: int, out: Path, shelf: Path, console: Console, go_on: str
) -> Played:
    """Train from the run `aligned` on, and judge start, SFT, GRPO and ceiling on the same scenes."""
    start = out / "aligned"
    if not start.exists():
        export(run=Path(aligned), out=start)
    files = write_prompts(settings, seed=seed, out=out)
    runs: dict[str, Path] = {}
    for row in ("grpo", "sft_boxes"):
        with phase("GRPO" if row == "grpo" else "SFT on true boxes"):
            recipe = make_recipe(_recipe(settings, row, start, files[row], seed=seed, out=out))
            runs[row] = train(recipe, go_on=go_on)
    targets = {"start": str(start), **{row: str(folder) for row, folder in runs.items()}, "ceiling": "world:ceiling"}
    judged = _judge(settings, {row: targets[row] for row in ROWS}, shelf, console)
    answers = {row: found.answers for row, found in judged["detect"].items()}
    true = judged["detect"]["start"].true_boxes
    with phase("comparing boxes"):
        return Played(
            judged=judged,
            runs=runs,
            map_draws={row: average_precision_draws(answers[row], true) for row in ROWS},
            gain=box_gain(answers["start"], answers["grpo"], true),
        )


def write_prompts(settings: BoxSettings, *, seed: int, out: Path) -> dict[str, list[str]]:
    """Prompts without answers for GRPO and the same ones with exact answers for SFT, as data files by row."""
    num = settings.steps * settings.prompts
    num_described = round(num * settings.share_described)
    asked = {"detect": (num - num_described, FIRST_SCENE), "describe": (num_described, FIRST_SCENE + num)}
    files: dict[str, list[str]] = {"grpo": [], "sft_boxes": []}
    for task, (size, first) in asked.items():
        exact = [exact_group(make_question(task, "train", first + i, seed=seed)) for i in range(size)]
        for row, groups in (("grpo", [Group(prompt=group.prompt) for group in exact]), ("sft_boxes", exact)):
            if groups:
                path = out / f"{'prompts' if row == 'grpo' else 'exact'}-{task}.jsonl"
                write_groups(path, groups)
                files[row].append(str(path))
    return files


def equal_steps(run: Path, *, prompts: int, answers: int) -> int:
    """SFT updates that read as many tokens as a run from rewards; forward passes count once, backward passes twice.

    The run reads its packed tokens four times (sampling, forward, backward); SFT, with one exact answer to a prompt of
    the same length, three times.
    """
    rows = Journal.open(run).read_updates()
    packed = sum(row["batch/tokens"] for row in rows)
    answered = sum(row["rollout/length"] * prompts * answers for row in rows)
    per_step = 3 * (packed - answered + answered / answers) / len(rows)
    return max(1, round(4 * packed / per_step))


def _recipe(
    settings: BoxSettings, row: str, start: Path, files: Sequence[str], *, seed: int, out: Path
) -> dict[str, Any]:
    steps = settings.steps
    if row == "sft_boxes":
        steps = equal_steps(out / "grpo", prompts=settings.prompts, answers=settings.answers)
    blocks: dict[str, Any] = {
        "name": f"demo-{row.replace('_', '-')}",
        "out": str(out / row),
        "seed": seed,
        "model": {"path": str(start), "train": "full", "features_folder": str(out / KEPT)},
        "data": {"files": list(files)},
        "objective": {"kind": "sft"},
        "optim": {"learning_rate": settings.learning_rate, "schedule": "constant"},
        "train": {
            "steps": steps,
            "groups_per_step": settings.prompts,
            "token_budget": 16384,
            "save_every": 50,
            "threads": torch.get_num_threads(),
        },
    }
    if row == "grpo":
        blocks |= {
            "objective": {"kind": "grpo"},
            "rewards": [
                {"name": "vision_r1", "tasks": ["detect"], "options": {"phase": "off"}},
                {"name": "hallucination", "tasks": ["describe"], "weight": 2.0},
            ],
            "rollout": {"group_size": settings.answers, "max_tokens": 128},
            "monitors": {"action": "warn"},
        }
    return blocks


def _judge(
    settings: BoxSettings, targets: Mapping[str, str], shelf: Path, console: Console
) -> dict[str, dict[str, Judged]]:
    sizes = {"detect": settings.test_scenes, "describe": settings.described_scenes}
    prompts = {task: task_prompts(task, "test", size) for task, size in sizes.items()}
    found: dict[str, dict[str, Judged]] = {task: {} for task in prompts}
    for row, target in targets.items():
        loaded, _ = load_trained(target)
        policy = reading_policy(loaded, shelf=shelf)
        with phase(f"{row} answers"):
            for task, asked in prompts.items():
                found[task][row] = judge_task(policy, make_inputs(loaded), find_task(task), asked)
            precision = found["detect"][row].mean_average_precision()
        console.print(f"  {row:>9}: mAP {precision.estimate:.1%}", highlight=False)
    return found


def box_summary(played: Played, *, seed: int) -> dict[str, Any]:
    """The figures of the second act, as plain JSON."""
    detect, describe = played.judged["detect"], played.judged["describe"]
    found: dict[str, Any] = {"map": {row: played.mean_average_precision(row).estimate for row in ROWS}}
    for row in ("sft_boxes", "grpo"):
        found[row] = {
            "relative_change": asdict(played.relative_change(row)),
            "gap_closed": asdict(played.gap_closed(row)),
        }
    for name in ("recall_50", "precision_50", "recall_75", "boxes_per_object"):
        found[name] = {row: ratio(detect[row].ratios()[name], seed=seed).estimate for row in ROWS}
    for name in ("hallucination", "coverage"):
        before = describe["start"].ratios()[name]
        found[name] = {row: ratio(describe[row].ratios()[name], seed=seed).estimate for row in ROWS}
        found[f"{name}_change"] = asdict(absolute_change(before, describe["grpo"].ratios()[name], seed=seed))
    return found | {"gain": {"shares": played.gain.shares, "counts": played.gain.counts}}


def box_line(summary: Mapping[str, Any]) -> str:
    """The second act in one line."""
    change, closed = summary["grpo"]["relative_change"], summary["grpo"]["gap_closed"]["estimate"]
    precision, invented = summary["map"], summary["hallucination"]
    return (
        f"boxes:    mAP {precision['start']:.1%} before, {precision['grpo']:.1%} after GRPO "
        f"({change['estimate']:+.0%}, {change['low']:+.0%} to {change['high']:+.0%}; {closed:.0%} of the gap); "
        f"{invented['start']:.1%} of mentioned objects are not there before, {invented['grpo']:.1%} after"
    )
