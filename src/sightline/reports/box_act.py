"""The demo's second act: boxes. What each model draws, how the gain came about, and what it left alone.

Knows neither models nor scenes: all of it comes in one frozen `BoxAct`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.evaluation.gain import BoxGain
from sightline.reports.charts import Point, line_chart, swatch
from sightline.reports.gallery import Box, Card, colours_of, picture_html
from sightline.reports.page import bullets, percent, section, text
from sightline.reports.results import ROW_NAMES, MetricRow, gap_tile, results_table, tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one model drew into a picture.

    Example: `Drawn(row="grpo", boxes=(("red star", (4, 6, 20, 22)),), note="1 of 2 found")`.
    """

    row: str
    """Name of the model in the table, or "truth"."""
    boxes: tuple[tuple[str, Box], ...]
    """Label and (left, top, right, bottom) in pixels of the picture."""
    note: str
    """How good they are, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxCard:
    """One picture as each model boxes it."""

    picture: bytes
    """The picture as a PNG or JPEG file."""
    width: int
    """Pixels across, the unit of the boxes."""
    height: int
    """Pixels down."""
    drawn: tuple[Drawn, ...]
    """One per model that is shown, the truth last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAct:
    """Everything that the section shows."""

    sentence: str
    """The outcome."""
    lead: str
    """What was done, in a sentence or two."""
    rows: tuple[str, ...]
    """The models of the table: where the act starts first, the ceiling last, the aligned model just before it."""
    table: tuple[MetricRow, ...]
    """mAP first; what must not suffer last."""
    gain: BoxGain
    """What the gain of the aligned model consists of."""
    curves: Mapping[str, Mapping[str, Sequence[Point]]]
    """Title of a chart -> series -> points (step, value)."""
    gallery: tuple[BoxCard, ...]
    """Some pictures."""


def box_act(act: BoxAct) -> str:
    """The section."""
    styles = {row: i for i, row in enumerate(act.rows)}
    tiles = tile(act.rows, act.table[0]) + tile(act.rows, act.table[-1]) + gap_tile(act.rows, act.table[0], styles)
    charts = "".join(
        line_chart(series, title=title, x_label="step", styles=dict.fromkeys(series, styles[act.rows[-2]]))
        for title, series in act.curves.items()
    )
    cards = "".join(_card(card, styles, number=i + 1) for i, card in enumerate(act.gallery))
    body = (
        f'<p class="lead">{text(act.lead)}</p><div class="tiles">{tiles}</div>'
        f"{results_table(act.rows, act.table, styles)}"
        f"<h3>What the gain consists of</h3>{bullets(gain_lines(act.gain))}"
        f'<div class="charts">{charts}</div><div class="cards">{cards}</div>'
    )
    return section("Second act: boxes", body, anchor="boxes", lead=act.sentence)


def gain_lines(gain: BoxGain) -> tuple[str, ...]:
    """Each part of the gain in words."""
    counts, points = gain.counts, {name: percent(share, signed=True) for name, share in gain.shares.items()}
    total, num_both = percent(gain.after - gain.before, signed=True), counts["better"] + counts["worse"]
    return (
        f"Boxes placed better: {points['placed']} of {total} mAP. Of {num_both:,} objects hit before and after whose "
        f"box moved, {counts['better']:,} boxes fit better and {counts['worse']:,} worse.",
        f"Objects found: {points['found']}. {counts['added']:,} objects were hit that had not been, and "
        f"{counts['lost']:,} were lost.",
        f"False boxes dropped: {points['false']}. There were {counts['false_before']:,} and are "
        f"{counts['false_after']:,}.",
    )


def _card(card: BoxCard, styles: Mapping[str, int], *, number: int) -> str:
    truth_first = sorted(card.drawn, key=lambda drawn: drawn.row != "truth")
    colours = colours_of(label for drawn in truth_first for label, _ in drawn.boxes)
    views = "".join(_view(card, drawn, styles, colours) for drawn in card.drawn)
    return f'<article class="views" aria-label="Boxes in scene {number}">{views}</article>'


def _view(card: BoxCard, drawn: Drawn, styles: Mapping[str, int], colours: Mapping[str, int]) -> str:
    picture = Card(picture=card.picture, width=card.width, height=card.height, boxes=drawn.boxes)
    name = "What is really there" if drawn.row == "truth" else ROW_NAMES.get(drawn.row, drawn.row)
    mark = swatch(styles[drawn.row]) if drawn.row in styles else ""
    return (
        f'<figure class="view s{styles.get(drawn.row, 0)}">{picture_html(picture, colours)}'
        f"<figcaption>{mark}{text(name)}<small>{text(drawn.note)}</small></figcaption></figure>"
    )
