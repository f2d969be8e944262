"""The second act as the report's records."""

from collections.abc import Sequence
from typing import Literal

from sightline.build.demo_boxes import ROWS, Played
from sightline.evaluation.run import Judged
from sightline.evaluation.statistics import absolute_change, ratio
from sightline.journal import Journal
from sightline.records import Image
from sightline.reports.box_act import BoxAct, BoxCard, Drawn
from sightline.reports.page import percent
from sightline.reports.results import MetricRow
from sightline.rewards.boxes import LabelledBox, match_boxes, parse_boxes

GALLERY = 6
Better = Literal["lower", "higher", "neither"]
LEAD = (
    "GRPO samples eight lists of boxes for every prompt, and Vision-R1's rule says how good each is: format, recall, "
    "precision. A quarter of the prompts asks for descriptions, so that the first act's lesson stays. SFT is told the "
    "exact answers to the same prompts at equal compute."
)
SHOWN: tuple[tuple[str, str, str, Better], ...] = (
    ("detect", "recall_50", "objects found at IoU 0.5", "higher"),
    ("detect", "recall_75", "objects found at IoU 0.75", "higher"),
    ("detect", "precision_50", "boxes that hit at IoU 0.5", "higher"),
    ("detect", "boxes_per_object", "boxes given over objects present", "neither"),
    ("describe", "coverage", "objects named in descriptions", "higher"),
    ("describe", "hallucination", "named in descriptions and not there", "lower"),
)


def box_act_of(played: Played, *, seed: int) -> BoxAct:
    """The section of the page."""
    before, after = (played.mean_average_precision(row) for row in ("start", "grpo"))
    closed = played.gap_closed("grpo")
    return BoxAct(
        sentence=f"mAP rises from {percent(before.estimate)} to {percent(after.estimate)}, "
        f"{percent(closed.estimate, digits=0)} of the way to the ceiling.",
        lead=LEAD,
        rows=ROWS,
        table=_table(played, seed),
        gain=played.gain,
        curves=_curves(played),
        gallery=_gallery(played.judged["detect"]),
    )


def _table(played: Played, seed: int) -> tuple[MetricRow, ...]:
    rows = [
        MetricRow(
            name="detection mAP",
            description="mean average precision, IoU 0.5 to 0.95",
            better="higher",
            values={row: played.mean_average_precision(row) for row in ROWS},
            change={row: played.relative_change(row) for row in ROWS[1:]},
            gap_closed={row: played.gap_closed(row) for row in ("sft_boxes", "grpo")},
        )
    ]
    for task, name, description, better in SHOWN:
        ratios = {row: played.judged[task][row].ratios()[name] for row in ROWS}
        rows.append(
            MetricRow(
                name=name.replace("_", " "),
                description=description,
                better=better,
                unit="number" if name == "boxes_per_object" else "percent",
                values={row: ratio(found, seed=seed) for row, found in ratios.items()},
                change={row: absolute_change(ratios["start"], ratios[row], seed=seed) for row in ROWS[1:]},
                change_kind="absolute",
            )
        )
    return tuple(rows)


def _curves(played: Played) -> dict[str, dict[str, list[tuple[float, float]]]]:
    rows = Journal.open(played.runs["grpo"]).read_updates()
    reward = "reward/{}".format
    wanted = (
        ("Vision-R1's rule on sampled boxes", reward("vision_r1")),
        ("Boxes per object in sampled answers", "rollout/boxes_per_object"),
        ("Rule on sampled descriptions", reward("hallucination")),
        ("Different answers in a group", "rollout/distinct"),
    )
    return {title: {"grpo": [(r["step"], r[name]) for r in rows if name in r]} for title, name in wanted}


def _gallery(detect: dict[str, Judged]) -> tuple[BoxCard, ...]:
    """Scenes in which GRPO gained most over a start that gave boxes, and one in which it still misses something."""
    start, grpo = detect["start"], detect["grpo"]
    gained = [_hits(grpo, i) - _hits(start, i) for i in range(len(start.prompts))]
    missed = [len(grpo.true_boxes[i]) - _hits(grpo, i) for i in range(len(start.prompts))]
    boxed = [i for i in range(len(gained)) if parse_boxes(start.answers[i])]
    best = sorted(boxed, key=lambda i: -gained[i])[: GALLERY - 1]
    worst = [i for i in sorted(range(len(missed)), key=lambda i: -missed[i]) if i not in best][:1]
    return tuple(_card(detect, i) for i in (*best, *worst))


def _hits(judged: Judged, index: int) -> int:
    boxes = parse_boxes(judged.answers[index]) or ()
    return sum(overlap >= 0.75 for _, _, overlap in match_boxes(boxes, judged.true_boxes[index]))


def _card(detect: dict[str, Judged], index: int) -> BoxCard:
    prompt = detect["start"].prompts[index]
    image = next(part for part in prompt.messages[0].content if isinstance(part, Image))
    assert image.data is not None
    true = detect["start"].true_boxes[index]
    drawn = [_drawn(row, parse_boxes(detect[row].answers[index]), true) for row in ("start", "sft_boxes", "grpo")]
    note = f"{len(true)} object{'s' * (len(true) != 1)}"
    drawn.append(Drawn(row="truth", boxes=tuple((box.label, box.box) for box in true), note=note))
    return BoxCard(picture=image.data, width=prompt.truth["width"], height=prompt.truth["height"], drawn=tuple(drawn))


def _drawn(row: str, boxes: Sequence[LabelledBox] | None, true: Sequence[LabelledBox]) -> Drawn:
    if boxes is None:
        return Drawn(row=row, boxes=(), note="no list of boxes")
    overlaps = [overlap for _, _, overlap in match_boxes(boxes, true) if overlap >= 0.5]
    mean = f", mean IoU {sum(overlaps) / len(overlaps):.2f}" if overlaps else ""
    note = f"{len(overlaps)} of {len(true)} found{mean}, {len(boxes) - len(overlaps)} false"
    return Drawn(row=row, boxes=tuple((box.label, box.box) for box in boxes), note=note)
