"""The demo's second act: its data, its figures, its page; and the whole demo in small."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sightline import build
from sightline.build.demo_box_page import box_act_of
from sightline.build.demo_boxes import ROWS, BoxSettings, Played, box_line, box_summary, equal_steps, write_prompts
from sightline.data.files import read_groups
from sightline.evaluation.gain import box_gain
from sightline.evaluation.metrics import average_precision_draws
from sightline.evaluation.run import Judged
from sightline.journal import Journal
from sightline.world.prompts import exact_group
from sightline.world.tasks import find_task, make_question


def judged(task: str, answers: list[str], num: int) -> Judged:
    """Given answers to the first questions of a task."""
    found = find_task(task)
    prompts = tuple(exact_group(make_question(task, "test", i)).prompt for i in range(num))
    boxes = () if found.true_boxes is None else tuple(found.true_boxes(prompt.truth) for prompt in prompts)
    scores = tuple(found.score(answer, prompt.truth) for answer, prompt in zip(answers, prompts, strict=True))
    return Judged(task=task, prompts=prompts, answers=tuple(answers), scores=scores, true_boxes=boxes)


def played(tmp_path: Path, num: int = 40) -> Played:
    """A start that boxes every second picture, GRPO and SFT that box nearly all, a ceiling that is exact."""
    exact = {task: [make_question(task, "test", i).answer for i in range(num)] for task in ("detect", "describe")}
    every = {"start": 2, "sft_boxes": 20, "grpo": 10, "ceiling": num + 1}
    given = {row: [a if (i + 1) % n else "[]" for i, a in enumerate(exact["detect"])] for row, n in every.items()}
    detect = {row: judged("detect", given[row], num) for row in ROWS}
    describe = {row: judged("describe", exact["describe"], num) for row in ROWS}
    with Journal.create(tmp_path / "run", {"name": "grpo"}, {}) as journal:
        for step in (1, 2):
            journal.metrics(step, {"reward/vision_r1": 2.0 + step / 10, "batch/tokens": 1600.0, "rollout/length": 20.0})
    true = detect["start"].true_boxes
    return Played(
        judged={"detect": detect, "describe": describe},
        runs={"grpo": tmp_path / "run"},
        map_draws={row: average_precision_draws(given[row], true, resamples=200) for row in ROWS},
        gain=box_gain(given["start"], given["grpo"], true),
    )


def test_both_arms_see_the_same_prompts_and_only_one_sees_answers(tmp_path: Path):
    files = write_prompts(BoxSettings(steps=4, prompts=5), seed=3, out=tmp_path)
    groups = {row: [group for path in paths for _, group in read_groups(Path(path))] for row, paths in files.items()}
    assert [g.prompt for g in groups["grpo"]] == [g.prompt for g in groups["sft_boxes"]]
    assert [g.prompt.task for g in groups["grpo"]] == ["detect"] * 15 + ["describe"] * 5
    assert not any(g.completions for g in groups["grpo"])
    assert all(len(g.completions) == 1 for g in groups["sft_boxes"])


def test_equal_compute_counts_forward_once_and_backward_twice(tmp_path: Path):
    run = played(tmp_path).runs["grpo"]
    prompts = 1600 - 20 * 4 * 8
    assert equal_steps(run, prompts=4, answers=8) == round(4 * 3200 / (3 * (prompts + 20 * 4)))


def test_the_figures_and_the_page_tell_the_same(tmp_path: Path):
    found = played(tmp_path)
    summary = json.loads(json.dumps(box_summary(found, seed=0)))
    assert summary["map"]["ceiling"] == pytest.approx(1)
    assert summary["map"]["start"] < summary["map"]["grpo"] < 1
    gap = summary["grpo"]["gap_closed"]
    expected = (summary["map"]["grpo"] - summary["map"]["start"]) / (1 - summary["map"]["start"])
    assert gap["estimate"] == pytest.approx(expected)
    assert gap["low"] < gap["estimate"] < gap["high"]
    assert summary["hallucination_change"]["estimate"] == 0
    assert np.isclose(sum(summary["gain"]["shares"].values()), summary["map"]["grpo"] - summary["map"]["start"])
    act = box_act_of(found, seed=0)
    assert act.table[0].values["grpo"].estimate == summary["map"]["grpo"]
    assert f"{summary['map']['grpo']:.1%}" in act.sentence
    assert f"{summary['map']['grpo']:.1%} after GRPO" in box_line(summary)
    assert [drawn.row for drawn in act.gallery[0].drawn] == ["start", "sft_boxes", "grpo", "truth"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_plays_both_acts_and_says_how_it_went(tmp_path: Path):
    console = Console(record=True, width=200)
    report = build.demo(out=tmp_path / "demo", seed=1, scenes=60, quick=True, console=console)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert set(summary["metrics"]) == {"hallucination", "coverage"}
    assert set(summary["boxes"]["map"]) == set(ROWS)
    said = console.export_text().splitlines()
    assert [line.split(":")[0] for line in said[-6:]] == ["before", "after", "change", "boxes", "time", "report"]
    page = report.read_text()
    for words in ("Second act: boxes", "What the gain consists of", "SFT, true boxes"):
        assert words in page
