"""The demo's page: what was measured, as the report's records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sightline.evaluation.run import Judged
from sightline.evaluation.statistics import ratio
from sightline.journal import Journal
from sightline.records import Image
from sightline.reports.box_act import BoxAct
from sightline.reports.demo_report import DemoResult, write_demo_report
from sightline.reports.gallery import Answer, Card
from sightline.reports.results import MetricRow
from sightline.world.tasks import naming

GALLERY = 12
Better = Literal["lower", "higher"]
OTHERS: tuple[tuple[str, str, str, str, Better], ...] = (
    ("exist", "accuracy", "yes/no questions", "right answers", "higher"),
    ("exist", "yes_to_absent", "yes to the absent", "yes to an object that is not there", "lower"),
    ("count", "accuracy", "counting", "right answers", "higher"),
    ("detect", "recall_50", "boxes found", "recall at IoU 0.5", "higher"),
    ("detect", "precision_50", "boxes right", "precision at IoU 0.5", "higher"),
    ("refuse", "answered_private", "private cards", "read out although private", "lower"),
    ("refuse", "refused_public", "public signs", "refused although public", "lower"),
)
NOTES = (
    "What was planted: the base was taught captions in which half of all phrases bring their usual companion "
    "along although it is not there, and in which small striped objects are left out; lists of boxes with boxes "
    "missing and shifted; counts of four and more one too low; some private cards read out and some public signs "
    "refused. The card of the models lists every rate.",
    "The ceiling is the same model before that teaching: what alignment can hope to win back.",
    "SFT sees the chosen answers of the very same pairs, at the same count of language-model tokens (forward and "
    "backward count three, DPO's reference pass one).",
    "A drawn world shows mechanisms: which loss follows which bias, what an anchor keeps. It does not show what a "
    "model of seven billion parameters will gain.",
)


def write_page(
    path: Path,
    judged: Mapping[str, Mapping[str, Judged]],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    curves: Mapping[str, Path],
    settings: Mapping[str, str],
    seed: int,
    lines: Sequence[str],
    boxes: BoxAct,
) -> Path:
    """Write the report and return where it is."""
    rows = tuple(judged["describe"])
    page = DemoResult(
        title="Sightline demo: a model stops naming what is not there",
        subtitle="A small vision-language model, preferences of a simulated person over its own answers, DPO, and four "
        "models judged on the same pictures.",
        settings=settings,
        rows=rows,
        table=_table(judged, results, rows, seed),
        curves=_curves(curves),
        gallery=_gallery(judged["describe"], rows),
        notes=NOTES,
        last_lines=tuple(lines),
        boxes=boxes,
    )
    return write_demo_report(path, page)


def _table(
    judged: Mapping[str, Mapping[str, Judged]],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    rows: Sequence[str],
    seed: int,
) -> tuple[MetricRow, ...]:
    words: dict[str, tuple[str, Better, Literal["relative", "absolute"]]] = {
        "hallucination": ("mentioned objects that are not in the picture", "lower", "relative"),
        "coverage": ("objects in the picture that are named", "higher", "absolute"),
    }
    table = []
    for name, (description, better, kind) in words.items():
        found = results[name]
        closed = {row: value for row, value in found["gap_closed"].items() if value is not None}
        table.append(
            MetricRow(
                name=name,
                description=description,
                better=better,
                values=found["values"],
                change=found["change"],
                change_kind=kind,
                gap_closed=closed or None,
            )
        )
    for task, name, title, description, better in OTHERS:
        values = {row: ratio(judged[task][row].ratios()[name], seed=seed) for row in rows}
        row = MetricRow(name=title, description=description, better=better, values=values)
        table.append(row)
    return tuple(table)


def _curves(runs: Mapping[str, Path]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    metrics = {row: Journal.open(folder).read_updates() for row, folder in runs.items()}
    wanted = (
        ("Loss", "loss/total", ("sft", "dpo")),
        ("Pairs that the policy ranks as the person did", "reward/accuracy", ("dpo",)),
        ("Margin of chosen over rejected", "reward/margin", ("dpo",)),
        ("Log-probability of the chosen answer", "policy/chosen_logprob", ("dpo",)),
    )
    return {
        title: {row: _smooth([(r["step"], r[name]) for r in metrics[row]]) for row in rows if row in metrics}
        for title, name, rows in wanted
    }


def _smooth(points: Sequence[tuple[float, float]], window: int = 5) -> list[tuple[float, float]]:
    """Means over a few steps, so that a curve shows its course."""
    parts = [points[max(0, i - window + 1) : i + 1] for i in range(len(points))]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _gallery(described: Mapping[str, Judged], rows: Sequence[str]) -> tuple[Card, ...]:
    """Scenes in which the base hallucinated or DPO still does, evenly spread over the test split."""
    base, dpo = described["base"], described["dpo"]
    told = [
        i for i in range(len(base.prompts)) if base.scores[i]["hallucination"][0] > dpo.scores[i]["hallucination"][0]
    ]
    kept = [i for i in range(len(base.prompts)) if dpo.scores[i]["hallucination"][0] > 0]
    chosen = [*_spread(told, GALLERY - 3), *_spread([i for i in kept if i not in told], 3)]
    return tuple(_card(described, rows, i) for i in dict.fromkeys(chosen))


def _spread(items: Sequence[int], num: int) -> list[int]:
    return [items[i * len(items) // num] for i in range(num)] if len(items) >= num else list(items)


def _card(described: Mapping[str, Judged], rows: Sequence[str], index: int) -> Card:
    prompt = described["base"].prompts[index]
    facts = prompt.truth
    image = next(part for part in prompt.messages[0].content if isinstance(part, Image))
    text = next(part for part in prompt.messages[0].content if isinstance(part, str))
    assert image.data is not None
    return Card(
        picture=image.data,
        width=facts["width"],
        height=facts["height"],
        boxes=tuple((item["label"], tuple(item["box"])) for item in facts["objects"]),
        answers=tuple(_answer(row, described[row].answers[index], facts) for row in rows),
        prompt=text,
    )


def _answer(row: str, text: str, facts: Mapping[str, Any]) -> Answer:
    found = naming(text, facts)
    spans = [(m.start, m.end, "correct") for m in found.found] + [
        (m.start, m.end, "hallucinated") for m in found.absent
    ]
    return Answer(row=row, text=text, spans=tuple(sorted(spans)), missed=found.missed)  # type: ignore[arg-type]
