"""Vision-R1's rule on the embedded world: GRPO against SFT on true boxes, other rewards, rules and algorithms.

    python bench/vision_r1.py --arms grpo sft --seeds 0 1 2
    python bench/vision_r1.py --arms grpo half released early stages ppo rloo --seeds 0 1 2 --out runs/bench/vision_r1

Every arm is a recipe on the same prompts. A finished run, and its answers to the test scenes, are kept in the output
folder and not made again, so a killed study goes on. Prints a table and writes `vision_r1.json`: mAP with paired
intervals over scenes against base, ceiling and the arm `grpo`; shifted splits; other tasks.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline import build
from sightline.build.runs import load_trained, make_inputs
from sightline.config import make_recipe
from sightline.data.files import write_groups
from sightline.evaluation.metrics import average_precision_draws, gather, interval_of_draws
from sightline.evaluation.run import judge_task
from sightline.evaluation.statistics import Interval, absolute_change, ratio
from sightline.journal import Journal, recipe_of
from sightline.models.forward import Policy
from sightline.records import Group
from sightline.world.prompts import exact_group, task_prompts
from sightline.world.tasks import find_task, make_question

STEPS, PROMPTS, ANSWERS = 200, 16, 8
SHIFTED = ("pairs", "crowd", "canvas", "ground", "corrupt")
OTHER_TASKS = ("describe", "refer", "count", "exist", "read", "refuse")
RULE = {"name": "vision_r1", "options": {"phase": "off"}}
ARMS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "sft": {},
    "half": {"train": {"steps": STEPS // 2}},
    "released": {"train": {"steps": STEPS // 2}, "rewards": [{"name": "vision_r1", "options": {"mode": "released"}}]},
    "early": {"train": {"steps": STEPS // 2}, "rewards": [{"name": "vision_r1", "options": {"phase": "early"}}]},
    "stages": {"train": {"steps": STEPS // 2}, "rewards": [{"name": "vision_r1", "options": {"step": 0.5}}]},
    "ppo": {"train": {"steps": STEPS // 2}, "objective": {"kind": "ppo"}},
    "rloo": {"train": {"steps": STEPS // 2}, "objective": {"kind": "rloo"}},
}


def main() -> None:
    """Train what is missing, judge what is missing, compare."""
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(asked.threads)
    targets = {"base": "world:base", "ceiling": "world:ceiling"}
    spent: dict[str, float] = {}
    for seed in asked.seeds:
        for arm in asked.arms:
            name = f"{arm}-{seed}"
            targets[name], spent[name] = trained(arm, seed, asked.out)
    judged = {name: answers_of(target, asked.out / "answers", name, asked) for name, target in targets.items()}
    found = compared(judged, asked) | {"seconds": spent, "arms": {arm: recipe_blocks(arm) for arm in asked.arms}}
    (asked.out / "vision_r1.json").write_text(json.dumps(found, indent=1) + "\n")
    for line in table(found):
        print(line)


def trained(arm: str, seed: int, out: Path) -> tuple[str, float]:
    """The run folder of an arm, and how many seconds its updates took."""
    folder = out / f"{arm}-{seed}"
    if recipe_of(folder) is None or Journal.open(folder).read_status()["state"] != "done":
        values = recipe_values(arm, seed, out, folder)
        build.train(make_recipe(values), say=lambda line: print(f"{folder.name}: {line}"), show=shown(folder.name))
    return str(folder), sum(row["time/step_seconds"] for row in Journal.open(folder).read_metrics())


def recipe_blocks(arm: str) -> dict[str, Any]:
    """What an arm is, apart from seed and files."""
    blocks: dict[str, Any] = {
        "model": {"path": "world:base", "train": "full", "dtype": "bfloat16"},
        "objective": {"kind": "grpo"},
        "rewards": [RULE],
        "rollout": {"group_size": ANSWERS, "max_tokens": 128},
        "optim": {"learning_rate": 5e-5, "schedule": "constant"},
        "train": {"steps": STEPS, "groups_per_step": PROMPTS, "token_budget": 16384, "samples": 0, "save_every": 50},
        "monitors": {"action": "warn"},
    }
    for name, block in ARMS[arm].items():
        blocks[name] = block if name in ("rewards", "objective") else blocks[name] | block
    if arm == "sft":
        blocks |= {"objective": {"kind": "sft"}}
        del blocks["rewards"], blocks["rollout"], blocks["monitors"]
    return blocks


def recipe_values(arm: str, seed: int, out: Path, folder: Path) -> dict[str, Any]:
    """The recipe of an arm; SFT sees the same prompts with their true boxes, for as much compute as GRPO."""
    num = STEPS * PROMPTS
    data = out / f"{'exact' if arm == 'sft' else 'prompts'}-{seed}.jsonl"
    if not data.exists():
        questions = [make_question("detect", "train", index, seed=seed) for index in range(num)]
        exact = [exact_group(question) for question in questions]
        write_groups(data, exact if arm == "sft" else [Group(prompt=group.prompt) for group in exact])
    blocks = recipe_blocks(arm)
    if arm == "sft":
        blocks["train"] = blocks["train"] | {"steps": equal_steps(Path(f"{out}/grpo-{seed}"))}
    return {"name": folder.name, "out": str(folder), "seed": seed, "data": {"files": [str(data)]}, **blocks}


def equal_steps(grpo: Path) -> int:
    """SFT updates that read as many tokens as GRPO, where a forward pass counts one and a backward pass two.

    GRPO reads its packed tokens four times (sampling, forward, backward); SFT, with one exact answer to a prompt of the
    same length, three times.
    """
    rows = Journal.open(grpo).read_metrics()
    packed = sum(row["batch/tokens"] for row in rows)
    answers = sum(row["rollout/length"] * PROMPTS * ANSWERS for row in rows)
    prompts = packed - answers
    per_step = 3 * (prompts + answers / ANSWERS) / len(rows)
    return round(4 * packed / per_step)


def shown(name: str) -> Callable[[int, int, Mapping[str, float]], None]:
    """A line every 25 updates."""

    def show(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
        if step % 25 == 0 or step == num_steps:
            words = {
                key: metrics[key] for key in ("reward/mean", "loss/sft", "rollout/boxes_per_object") if key in metrics
            }
            said = ", ".join(f"{key} {value:.3f}" for key, value in words.items())
            print(f"{time.strftime('%H:%M:%S')} {name}: {step} of {num_steps}: {said}", flush=True)

    return show


def answers_of(target: str, folder: Path, name: str, asked: argparse.Namespace) -> dict[str, list[str]]:
    """Greedy answers by task and split, kept on disk."""
    path = folder / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    folder.mkdir(exist_ok=True)
    loaded, _ = load_trained(target)
    policy = Policy(loaded.model, loaded.family, autocast=torch.bfloat16, keep_batch=64, keep_feature_bytes=2**26)
    found = {}
    for task, split, num in asked_of(asked):
        prompts = task_prompts(task, split, num)
        found[f"{task}/{split}"] = list(judge_task(policy, make_inputs(loaded), find_task(task), prompts).answers)
    path.write_text(json.dumps(found))
    print(f"{name}: answered", flush=True)
    return found


def asked_of(asked: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Task, split and number of scenes."""
    shifted = [("detect", split, asked.scenes // 3) for split in SHIFTED]
    return [("detect", "test", asked.scenes), *shifted, *((task, "test", asked.scenes // 3) for task in OTHER_TASKS)]


def compared(judged: Mapping[str, Mapping[str, Sequence[str]]], asked: argparse.Namespace) -> dict[str, Any]:
    """All figures, as plain JSON."""
    found: dict[str, Any] = {"scenes": asked.scenes, "splits": {}, "tasks": {}, "test": {}}
    detect = find_task("detect")
    assert detect.true_boxes is not None
    for split, num in [("test", asked.scenes), *((split, asked.scenes // 3) for split in SHIFTED)]:
        truths = [prompt.truth for prompt in task_prompts("detect", split, num)]
        boxes = [detect.true_boxes(truth) for truth in truths]
        draws = {name: average_precision_draws(answers[f"detect/{split}"], boxes) for name, answers in judged.items()}
        found["splits"][split] = {name: changes(name, draws) for name in judged}
        if split == "test":
            for name, answers in judged.items():
                ratios = gather([detect.score(a, t) for a, t in zip(answers["detect/test"], truths, strict=True)])
                found["test"][name] = {key: float(r.numerator.sum() / r.denominator.sum()) for key, r in ratios.items()}
    for task in OTHER_TASKS:
        truths = [prompt.truth for prompt in task_prompts(task, "test", asked.scenes // 3)]
        found["tasks"][task] = task_changes(task, truths, judged)
    return found


def changes(name: str, draws: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """mAP of one model, relative to the base, as a share of the gap, and against GRPO with the same seed."""
    base, ceiling, own = draws["base"], draws["ceiling"], draws[name]
    rival = draws.get(f"grpo-{name.rpartition('-')[2]}")
    values = {"map": own, "relative": own / base - 1, "gap_closed": (own - base) / (ceiling - base)}
    if rival is not None and not name.startswith("grpo"):
        values["less_than_grpo"] = rival - own
    return {key: asdict(interval_of_draws(value)) for key, value in values.items()}


def task_changes(task: str, truths: Sequence[Any], judged: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Any]:
    """Changes of the task's figures against the base, in fractions."""
    ratios = {
        name: gather([find_task(task).score(a, t) for a, t in zip(answers[f"{task}/test"], truths, strict=True)])
        for name, answers in judged.items()
    }
    found: dict[str, Any] = {}
    for name, metrics in ratios.items():
        found[name] = {}
        for metric, value in metrics.items():
            if value.denominator.sum() == 0:
                continue
            change: Interval | None = None
            if name != "base":
                change = absolute_change(ratios["base"][metric], value, seed=0, resamples=2000)
            found[name][metric] = {
                "value": asdict(ratio(value, seed=0, resamples=2000)),
                "change": None if change is None else asdict(change),
            }
    return found


def table(found: Mapping[str, Any]) -> list[str]:
    """Markdown rows: detection on the test split, then shifted splits."""
    lines = [
        "| model | mAP | relative to base | gap closed | recall | precision | boxes per object |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found["splits"]["test"].items():
        cells = [percent(row[key]) for key in ("map", "relative", "gap_closed")]
        plain = found["test"][name]
        more = [f"{plain['recall_50']:.1%}", f"{plain['precision_50']:.1%}", f"{plain['boxes_per_object']:.2f}"]
        lines.append(f"| {name} | {' | '.join([*cells, *more])} |")
    lines += ["", f"| model | {' | '.join(SHIFTED)} |", f"|---|{'---|' * len(SHIFTED)}"]
    for name in found["splits"]["test"]:
        lines.append(f"| {name} | {' | '.join(percent(found['splits'][split][name]['map']) for split in SHIFTED)} |")
    return lines


def percent(value: Mapping[str, float]) -> str:
    """A fraction with its interval, in percent."""
    return f"{value['estimate']:.1%} ({value['low']:.1%} to {value['high']:.1%})"


def arguments() -> argparse.Namespace:
    """What may be changed from outside."""
    parser = argparse.ArgumentParser(description="Vision-R1's rule on the embedded world.")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["grpo", "sft"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scenes", type=int, default=900, help="test scenes; a third of them for each other measure")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/vision_r1"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
