"""Invented results for the pages, and a reader that checks their HTML."""

import io
import math
from html.parser import HTMLParser

from PIL import Image

from sightline.evaluation.gain import BoxGain
from sightline.evaluation.statistics import Interval
from sightline.reports.box_act import BoxAct, BoxCard, Drawn
from sightline.reports.demo_report import DemoResult
from sightline.reports.gallery import Answer, Card
from sightline.reports.results import MetricRow

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;\x1b[31m\ud800'
ROWS = ("base", "sft", "dpo", "ceiling")
VOID = {"meta", "img", "input", "br", "hr", "link"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; complains about tags that do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words between the tags."""
        return "".join(self.words)

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """Attributes of the tags of one kind that have these values."""
        return [
            found
            for name, found in self.tags
            if name == tag and all(found.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]


def assert_self_contained(page: str) -> Reader:
    """No script, no handler, no address outside the page; identifiers are unique."""
    reader = Reader(page)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    identifiers = []
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], f"{tag} has a handler"
        source = attributes.get("src") or attributes.get("href") or "#"
        assert source.startswith(("data:image/png;base64,", "#")), f"{tag} leads to {source}"
        identifiers += [attributes["id"]] if "id" in attributes else []
    assert len(identifiers) == len(set(identifiers))
    assert "url(" not in page
    assert "@import" not in page
    return reader


def png(width: int = 64, height: int = 48) -> bytes:
    """A plain picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (230, 226, 215)).save(buffer, "PNG")
    return buffer.getvalue()


def around(estimate: float, half: float = 0.01) -> Interval:
    """An interval with its estimate in the middle."""
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def metric(name: str = "hallucination", **changes: object) -> MetricRow:
    """A metric that DPO improves clearly and SFT a little."""
    values = dict(zip(ROWS, map(around, (0.24, 0.17, 0.09, 0.03)), strict=True))
    fields: dict[str, object] = {
        "name": name,
        "description": "named objects that are absent",
        "better": "lower",
        "values": values,
        "change": {"sft": around(-0.29, 0.05), "dpo": around(-0.625, 0.03), "ceiling": around(-0.87, 0.02)},
        "gap_closed": {"sft": around(0.33, 0.05), "dpo": around(0.71, 0.04)},
    }
    return MetricRow(**(fields | changes))  # type: ignore[arg-type]


def card(**changes: object) -> Card:
    """A scene with two objects, one of which the base misses."""
    said = "There is a red circle and a blue star."
    fields: dict[str, object] = {
        "picture": png(),
        "width": 64,
        "height": 48,
        "boxes": (("red circle", (4.0, 6.0, 20.0, 22.0)), ("green square", (30.0, 20.0, 50.0, 40.0))),
        "prompt": "Describe the picture.",
        "answers": (
            Answer(
                row="base",
                text=said,
                spans=((11, 21, "correct"), (28, 37, "hallucinated")),
                missed=("green square",),
            ),
            Answer(row="dpo", text="There is a red circle.", spans=((11, 21, "correct"),), missed=()),
        ),
    }
    return Card(**(fields | changes))  # type: ignore[arg-type]


def demo(**changes: object) -> DemoResult:
    """A whole result."""
    coverage = metric(
        "coverage",
        description="objects that are named",
        better="higher",
        values=dict(zip(ROWS, map(around, (0.78, 0.79, 0.775, 0.93)), strict=True)),
        change={"sft": around(0.01, 0.02), "dpo": around(-0.005, 0.01), "ceiling": around(0.15)},
        change_kind="absolute",
        gap_closed=None,
    )
    steps = [float(step) for step in range(200)]
    fields: dict[str, object] = {
        "title": "Sightline demo",
        "subtitle": "A small model is aligned.",
        "settings": {"seed": "0", "scenes": "2,000"},
        "rows": ROWS,
        "table": (metric(), coverage),
        "curves": {
            "Loss": {"dpo": [(step, math.exp(-step / 50) + step % 3 / 10) for step in steps]},
            "Rewards": {"chosen": [(0.0, 0.1), (10.0, math.nan), (20.0, 0.3)], "rejected": [(0.0, -0.1)]},
        },
        "gallery": (card(), card(prompt="")),
        "notes": ("Planted: neighbours that are not there.", "A drawn world shows mechanisms."),
        "last_lines": ("before 24%", "after 9%", "interval", "time", "report"),
    }
    return DemoResult(**(fields | changes))  # type: ignore[arg-type]


def boxes(**changes: object) -> BoxAct:
    """A second act in which GRPO closes most of the gap."""
    rows = ("start", "sft_boxes", "grpo", "ceiling")
    better = dict(zip(rows, map(around, (0.30, 0.58, 0.50, 0.56)), strict=True))
    quality = metric(
        "mAP",
        description="mean average precision",
        better="higher",
        values=better,
        change={"sft_boxes": around(0.93), "grpo": around(0.67), "ceiling": around(0.87)},
        gap_closed={"sft_boxes": around(1.07), "grpo": around(0.77)},
    )
    kept = metric("hallucination", values=dict.fromkeys(rows, around(0.11)), change=None, gap_closed=None)
    drawn = tuple(
        Drawn(row=row, boxes=(("red circle", (4.0, 6.0, 20.0, 22.0)),), note="1 of 2 found") for row in (*rows, "truth")
    )
    fields: dict[str, object] = {
        "sentence": "mAP rises from 30.0% to 50.0%.",
        "lead": "GRPO with a rule that looks at boxes.",
        "rows": rows,
        "table": (quality, kept),
        "gain": BoxGain(
            before=0.3,
            after=0.5,
            shares={"found": 0.05, "placed": 0.16, "false": -0.01},
            counts={
                "hit_before": 800,
                "hit_after": 920,
                "added": 130,
                "lost": 10,
                "better": 500,
                "worse": 90,
                "false_before": 110,
                "false_after": 60,
            },
        ),
        "curves": {"Reward": {"grpo": [(0.0, 2.2), (100.0, 2.6)]}},
        "gallery": (BoxCard(picture=png(), width=64, height=48, drawn=drawn),),
    }
    return BoxAct(**(fields | changes))  # type: ignore[arg-type]
