"""Vision-R1's rule on the embedded world: GRPO against SFT on true boxes, other rewards, rules and algorithms.

    python bench/vision_r1.py --arms grpo sft mixed sft_mixed --seeds 0 1 2
    python bench/vision_r1.py --arms grpo released early stages ppo rloo --seeds 0 1 2

Every arm is a recipe on the same prompts (of those of `mixed` a quarter asks for descriptions). A finished run, and its
answers to the test scenes, are kept in the output folder and not made again, so a killed study goes on. Prints tables
and writes `vision_r1.json`: mAP with paired intervals over scenes against base, ceiling and `grpo` with the same seed;
means over seeds; what the gain consists of; shifted splits; other tasks; boxes per object along the way.
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
from sightline.build.demo_boxes import equal_steps
from sightline.build.loading import load_trained, make_inputs
from sightline.config import make_recipe
from sightline.data.files import write_groups
from sightline.evaluation.gain import box_gain
from sightline.evaluation.metrics import average_precision_draws, gather, interval_of_draws
from sightline.evaluation.run import judge_task
from sightline.evaluation.seeds import figure_of, holm, p_value
from sightline.evaluation.statistics import Interval, absolute_change, ratio
from sightline.journal import Journal, recipe_of
from sightline.models.reading import reading_policy
from sightline.records import Group
from sightline.world.prompts import exact_group, task_prompts
from sightline.world.tasks import find_task, make_question

STEPS, PROMPTS, ANSWERS = 100, 16, 8
SHIFTED = ("pairs", "crowd", "canvas", "ground", "corrupt")
OTHER_TASKS = ("describe", "refer", "count", "exist", "read", "refuse")
DESCRIBED = 0.25


def rule(**options: Any) -> list[dict[str, Any]]:
    """Vision-R1's reward, for prompts that ask for boxes."""
    return [{"name": "vision_r1", "tasks": ["detect"], "options": {"phase": "off"} | options}]


ARMS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "sft": {},
    "mixed": {"rewards": [*rule(), {"name": "hallucination", "tasks": ["describe"], "weight": 2.0}]},
    "sft_mixed": {},
    "released": {"rewards": [{"name": "vision_r1", "options": {"mode": "released"}}]},
    "early": {"rewards": rule(phase="early")},
    "stages": {"rewards": rule(phase={"steps": [[0.0, "early"], [0.5, "late"]]})},
    "ppo": {"objective": {"kind": "ppo"}, "critic": {"warmup_steps": 5}},
    "rloo": {"objective": {"kind": "rloo"}},
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
    found["boxes_per_object"] = {
        name: along(Path(target), "rollout/boxes_per_object") for name, target in targets.items()
    }
    (asked.out / "vision_r1.json").write_text(json.dumps(found, indent=1) + "\n")
    for line in table(found):
        print(line)


def trained(arm: str, seed: int, out: Path) -> tuple[str, float]:
    """The run folder of an arm, and how many seconds its updates took."""
    folder = out / f"{arm}-{seed}"
    if recipe_of(folder) is None or Journal.open(folder).read_status()["state"] != "done":
        values = recipe_values(arm, seed, out, folder)
        build.train(make_recipe(values), say=lambda line: print(f"{folder.name}: {line}"), show=shown(folder.name))
    return str(folder), sum(row["time/step_seconds"] for row in Journal.open(folder).read_updates())


def along(run: Path, metric: str, every: int = 10) -> list[float]:
    """Means of a metric over stretches of updates; empty for what was not trained or did not log it."""
    if recipe_of(run) is None:
        return []
    values = [row[metric] for row in Journal.open(run).read_updates() if metric in row]
    return [round(float(np.mean(values[i : i + every])), 3) for i in range(0, len(values), every)]


def recipe_blocks(arm: str) -> dict[str, Any]:
    """What an arm is, apart from seed and files."""
    blocks: dict[str, Any] = {
        "model": {"path": "world:base", "train": "full"},
        "objective": {"kind": "grpo"},
        "rewards": rule(),
        "rollout": {"group_size": ANSWERS, "max_tokens": 128},
        "optim": {"learning_rate": 5e-5, "schedule": "constant"},
        "train": {"steps": STEPS, "groups_per_step": PROMPTS, "token_budget": 16384, "samples": 0, "save_every": 50},
        "monitors": {"action": "warn"},
    }
    for name, block in ARMS[arm].items():
        blocks[name] = block
    if arm.startswith("sft"):
        blocks |= {"objective": {"kind": "sft"}}
        del blocks["rewards"], blocks["rollout"], blocks["monitors"]
    return blocks


def recipe_values(arm: str, seed: int, out: Path, folder: Path) -> dict[str, Any]:
    """The recipe of an arm; SFT sees the same prompts with their exact answers, for as much compute as its rival."""
    exact = arm.startswith("sft")
    mixed = arm.endswith("mixed")
    num = STEPS * PROMPTS
    sizes = {"detect": round(num * (1 - DESCRIBED)), "describe": round(num * DESCRIBED)} if mixed else {"detect": num}
    files = []
    for task, size in sizes.items():
        path = out / f"{'exact' if exact else 'prompts'}-{task}-{size}-{seed}.jsonl"
        files.append(str(path))
        if not path.exists():
            groups = [exact_group(make_question(task, "train", index, seed=seed)) for index in range(size)]
            write_groups(path, groups if exact else [Group(prompt=group.prompt) for group in groups])
    blocks = recipe_blocks(arm)
    if exact:
        rival = out / f"{'mixed' if mixed else 'grpo'}-{seed}"
        steps = equal_steps(rival, prompts=PROMPTS, answers=ANSWERS)
        blocks["train"] = blocks["train"] | {"steps": steps}
    return {"name": folder.name, "out": str(folder), "seed": seed, "data": {"files": files}, **blocks}


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
    policy = reading_policy(loaded)
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
            found["over_seeds"] = over_seeds(draws)
            base = judged["base"]["detect/test"]
            found["gain"] = {
                n: asdict(box_gain(base, a["detect/test"], boxes)) for n, a in judged.items() if n != "base"
            }
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


def over_seeds(draws: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means over the seeds of each arm: mAP, share of the gap, and the difference to GRPO; over scenes and seeds.

    "p" is that of the difference to GRPO, corrected by Holm for the number of arms.
    """
    found: dict[str, Any] = {}
    sure: dict[str, float] = {}
    base, ceiling = draws["base"], draws["ceiling"]
    for arm in ARMS:
        names = [name for name in draws if name.rpartition("-")[0] == arm]
        if not names:
            continue
        own = [draws[name] for name in names]
        values = {
            "map": own,
            "relative": [one / base - 1 for one in own],
            "gap_closed": [(one - base) / (ceiling - base) for one in own],
        }
        rivals = [draws.get(f"grpo-{name.rpartition('-')[2]}") for name in names]
        if arm != "grpo" and all(rival is not None for rival in rivals):
            values["less_than_grpo"] = [rival - one for rival, one in zip(rivals, own, strict=True)]
        figures = {key: figure_of(value) for key, value in values.items()}
        found[arm] = {key: asdict(figure) for key, figure in figures.items()}
        if "less_than_grpo" in figures:
            sure[arm] = p_value(figures["less_than_grpo"])
    for arm, p in holm(sure).items():
        found[arm]["p"] = p
    return found


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
    """Markdown: every run on the test split, means over seeds, the gain, shifted splits, other tasks."""
    lines = head("model", "mAP", "relative to base", "gap closed", "recall", "precision", "boxes per object")
    for name, row in found["splits"]["test"].items():
        cells = [percent(row[key]) for key in ("map", "relative", "gap_closed")]
        plain = found["test"][name]
        more = [f"{plain['recall_50']:.1%}", f"{plain['precision_50']:.1%}", f"{plain['boxes_per_object']:.2f}"]
        lines.append(f"| {name} | {' | '.join([*cells, *more])} |")
    lines += ["", *head("arm", "mAP, mean over seeds", "each seed", "gap closed", "less than grpo, points")]
    for arm, row in found["over_seeds"].items():
        seeds = ", ".join(f"{value:.1%}" for value in row["map"]["seeds"])
        less = f"{points(row['less_than_grpo'])}, p = {row['p']:.3f}" if "less_than_grpo" in row else "-"
        lines.append(f"| {arm} | {percent(row['map'])} | {seeds} | {percent(row['gap_closed'])} | {less} |")
    lines += ["", *head("model", "placed better", "found", "false dropped", "added / lost", "better / worse", "false")]
    for name, gain in found["gain"].items():
        shares, n = gain["shares"], gain["counts"]
        cells = [f"{100 * shares[key]:+.1f}" for key in ("placed", "found", "false")]
        cells += [f"{n['added']} / {n['lost']}", f"{n['better']} / {n['worse']}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {n['false_before']} to {n['false_after']} |")
    lines += ["", *head("model", *SHIFTED)]
    for name in found["splits"]["test"]:
        lines.append(f"| {name} | {' | '.join(percent(found['splits'][split][name]['map']) for split in SHIFTED)} |")
    names = [name for name in found["splits"]["test"] if name not in ("base", "ceiling")]
    lines += ["", *head("task", "base", *names)]
    for task, rows in found["tasks"].items():
        for metric in rows["base"]:
            cells = [points(rows[name][metric]["change"]) for name in names]
            value = rows["base"][metric]["value"]["estimate"]
            lines.append(f"| {task}: {metric} | {value:.1%} | {' | '.join(cells)} |")
    return lines


def head(*names: str) -> list[str]:
    """A table's first two lines."""
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def points(change: Mapping[str, float]) -> str:
    """A difference of fractions in points."""
    return f"{100 * change['estimate']:+.1f} ({100 * change['low']:+.1f} to {100 * change['high']:+.1f})"


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
