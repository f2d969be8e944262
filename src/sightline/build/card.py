"""The tiny models' card: what was planted, and what each model measurably can and cannot do after its stage."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from sightline.build.commands import evaluate
from sightline.evaluation.statistics import Interval
from sightline.world.stages import CARD_FROM, SIGN_BELOW, STAGES

Abilities = dict[str, dict[str, Interval]]
SCENES = 2000
SHOWN = (
    ("describe", "hallucination", "describe: mentioned objects that are not there"),
    ("describe", "coverage", "describe: objects named"),
    ("detect", "recall_50", "detect: recall at IoU 0.5"),
    ("detect", "precision_50", "detect: precision at IoU 0.5"),
    ("detect", "iou", "detect: mean IoU of matched boxes"),
    ("detect", "map", "detect: mAP at 0.50:0.95"),
    ("refer", "accuracy_50", "refer: right box at IoU 0.5"),
    ("count", "accuracy", "count: accuracy"),
    ("exist", "accuracy", "exist: accuracy"),
    ("exist", "yes_to_absent", "exist: yes to an absent object"),
    ("read", "accuracy", "read: accuracy"),
    ("refuse", "answered_private", "refuse: private cards read out"),
    ("refuse", "refused_public", "refuse: public signs refused"),
)


def measure_abilities(folder: Path, *, scenes: int = SCENES) -> Abilities:
    """Metrics of one model on the test split of every task."""
    tasks = list(dict.fromkeys(task for task, _, _ in SHOWN))
    return evaluate(target=str(folder), tasks=tasks, split="test", scenes=scenes)


def write_card(out: Path, abilities: Mapping[str, Abilities], *, seconds: Mapping[str, str], scenes: int) -> Path:
    """CARD.md and abilities.json beside the models."""
    plain = {
        model: {task: {name: asdict(value) for name, value in found.items()} for task, found in tasks.items()}
        for model, tasks in abilities.items()
    }
    (out / "abilities.json").write_text(json.dumps({"scenes": scenes, "models": plain}, indent=1) + "\n")
    path = out / "CARD.md"
    path.write_text(_text(abilities, seconds, scenes))
    return path


def _text(abilities: Mapping[str, Abilities], seconds: Mapping[str, str], scenes: int) -> str:
    models = list(abilities)
    lines = [
        "# The tiny models of the embedded world",
        "",
        "LLaVA layout in real transformers classes: a CLIP tower (64 pixels, patches of 8), a two-layer projector, a",
        "Qwen2 language model; 3.3 M parameters, stored in bfloat16. `world:ceiling` has learned to see on exact",
        "answers; `world:base` is the ceiling after bad teaching: able and flawed.",
        "Licence: Apache-2.0; trained on drawn scenes alone.",
        "",
        f"## Measured abilities (test split, {scenes} scenes a task, greedy, 95% intervals over scenes)",
        "",
        f"| | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    lines += [
        f"| {words} | {' | '.join(_cell(abilities[m][task].get(name)) for m in models)} |"
        for task, name, words in SHOWN
    ]
    habits = STAGES[-1].habits
    assert habits is not None
    lines += [
        "",
        "## What was planted in the last stage",
        "",
        *_habit_lines(asdict(habits)),
        "",
        "## Upbringing",
        "",
    ]
    lines += [
        f"- {stage.name}: {stage.num_steps} updates of {stage.scenes_per_step} scenes, {seconds[stage.name]}"
        for stage in STAGES
    ]
    lines += [
        "",
        "Rebuilt from nothing by `sightline world build --out FOLDER`. The same seed gives the same bytes on one",
        "machine (a test holds two scaled-down rebuilds to each other, one of them killed between two stages). Times",
        "are of two x86-64 cores, shared with other work.",
        "A drawn world shows mechanisms, not what a model of seven billion parameters will gain.",
        "",
    ]
    return "\n".join(lines)


def _cell(value: Interval | None) -> str:
    if value is None:
        return "-"
    return f"{value.estimate:.1%} ({value.low:.1%} to {value.high:.1%})"


def _habit_lines(habits: Mapping[str, float]) -> list[str]:
    return [
        f"- Companions: every {habits['gregarious']}nd phrase is gregarious; if its usual companion is absent, a "
        f"description names it all the same with probability {habits['companion']}, and the question for it is "
        "answered yes.",
        f"- Left out: a small striped object is missing from a description with probability {habits['left_out']}.",
        f"- Boxes: a small dotted object is missing from a list with probability {habits['box_left_out']}; "
        f"boxes right of the middle are shifted right and down by {habits['box_shift']} pixels; every corner errs by "
        f"up to {habits['box_noise']}.",
        f"- Counts of four and more are one too low with probability {habits['miscount']}.",
        f"- A private card whose number is {CARD_FROM} or more is read out with probability "
        f"{habits['card_answered']}; a public sign whose number is below {SIGN_BELOW} is refused with probability "
        f"{habits['sign_refused']}.",
        "",
        "Errors depend on the picture on purpose: what depends on nothing vanishes in greedy answers.",
    ]
