"""Scene cards: a picture with its boxes, and what each model said, wrong words and missed objects marked.

Owns the marking of text and the placing of box labels. Knows nothing of metrics, and not who decided that a
word is wrong. A mark never rests on colour alone: wrong words are struck through and followed by a cross,
right ones are underlined.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sightline.reports.charts import swatch
from sightline.reports.page import picture_uri, text

SpanKind = Literal["hallucinated", "correct"]
Box = tuple[float, float, float, float]

_LABEL_SIZE = 0.05
"""Height of a label as a share of the picture's longer side."""
_LETTER = 0.62
"""Width of a letter as a share of its height, on average."""
_PIXELATED_UP_TO = 320
"""Pictures up to this side are enlarged with hard edges; photographs are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one model said about one picture.

    Example: `Answer(row="base", text="A red circle and a star.", spans=((2, 12, "correct"), (19, 23,
    "hallucinated")), missed=("blue square",))`.
    """

    row: str
    """Name of the model in the table."""
    text: str
    """The answer as it came."""
    spans: tuple[tuple[int, int, SpanKind], ...] = ()
    """Characters from start to end (one past the last) that name something; they do not overlap."""
    missed: tuple[str, ...] = ()
    """Objects in the picture that the answer does not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One picture with everything said about it.

    Example: `Card(picture=png, width=64, height=64, boxes=(("red circle", (4, 6, 20, 22)),),
    answers=(answer,))`.
    """

    picture: bytes
    """The picture as a PNG or JPEG file."""
    width: int
    """Pixels across, the unit of the boxes."""
    height: int
    """Pixels down."""
    boxes: tuple[tuple[str, Box], ...] = ()
    """What is really there: label and (left, top, right, bottom)."""
    answers: tuple[Answer, ...] = ()
    """One per model, in the order of the table."""
    prompt: str = ""
    """What was asked."""


def gallery(cards: Sequence[Card], *, names: Mapping[str, str], styles: Mapping[str, int]) -> str:
    """All cards, with one switch for the boxes that works without a script. `names` turns rows into words."""
    body = "".join(card_html(card, names=names, styles=styles, number=i + 1) for i, card in enumerate(cards))
    return (
        '<div class="gallery"><input type="checkbox" id="show-boxes" checked>'
        '<label class="switch" for="show-boxes"><span class="knob" aria-hidden="true"></span>'
        "Show what is really there</label>"
        f'{legend()}<div class="cards">{body}</div></div>'
    )


def legend() -> str:
    """What the marks mean."""
    return (
        '<p class="key"><span><mark class="correct">underlined</mark> named and present</span>'
        '<span><mark class="hallucinated">struck</mark> named but absent</span>'
        '<span><span class="missed">dashed</span> present but not named</span></p>'
    )


def card_html(card: Card, *, names: Mapping[str, str], styles: Mapping[str, int], number: int) -> str:
    """One scene: the picture on the left, the answers beside it."""
    answers = "".join(answer_html(answer, names=names, styles=styles) for answer in card.answers)
    asked = f'<p class="prompt"><span>Asked</span> {quoted(card.prompt)}</p>' if card.prompt else ""
    return (
        f'<article class="card" aria-label="Scene {number}"><div class="scene">{picture_html(card)}'
        f'<p class="objects">{_objects(card)}</p></div>'
        f'<div class="said">{asked}<div class="answers">{answers}</div></div></article>'
    )


def colours_of(labels: Iterable[str]) -> dict[str, int]:
    """A colour for every label in order of appearance, so that one thing has one colour wherever it is boxed."""
    return {label: i for i, label in enumerate(dict.fromkeys(labels))}


def picture_html(card: Card, colours: Mapping[str, int] | None = None) -> str:
    """The picture with its boxes laid over it; the alternative text names what is in it.

    `colours` of the labels where several pictures stand side by side.
    """
    hard = " pixels" if max(card.width, card.height) <= _PIXELATED_UP_TO else ""
    labels = ", ".join(label for label, _ in card.boxes) or "no named object"
    overlay = _overlay(card, colours or colours_of(label for label, _ in card.boxes)) if card.boxes else ""
    return (
        f'<div class="picture{hard}" style="aspect-ratio:{card.width}/{card.height}">'
        f'<img src="{picture_uri(card.picture)}" width="{card.width}" height="{card.height}" '
        f'alt="Picture with {text(labels)}">{overlay}</div>'
    )


def answer_html(answer: Answer, *, names: Mapping[str, str], styles: Mapping[str, int]) -> str:
    """One answer with its marks, its tally and its missed objects."""
    missed = ""
    if answer.missed:
        items = "".join(f'<li class="missed">{text(name)}</li>' for name in answer.missed)
        missed = f'<div class="misses"><span>Not named</span><ul>{items}</ul></div>'
    style, name = styles.get(answer.row, 0), names.get(answer.row, answer.row)
    return (
        f'<div class="answer s{style}"><h4>{swatch(style)}{text(name)}{_tally(answer)}</h4>'
        f'<p class="words" dir="auto">{marked_text(answer)}</p>{missed}</div>'
    )


def marked_text(answer: Answer) -> str:
    """The answer's text, escaped, with its spans marked."""
    if not answer.text.strip():
        return '<em class="empty">(empty answer)</em>'
    parts, position = [], 0
    for start, end, kind in sorted(answer.spans):
        if not position <= start < end <= len(answer.text):
            raise ValueError(
                f"answer of {answer.row}: span {start} to {end} overlaps another or leaves the "
                f"{len(answer.text)} characters of the text; give spans inside the text that do not overlap"
            )
        parts.append(text(answer.text[position:start]))
        hidden = '<span class="unseen"> (not in the picture)</span>' if kind == "hallucinated" else ""
        parts.append(f'<mark class="{text(kind)}">{text(answer.text[start:end])}</mark>{hidden}')
        position = end
    return "".join(parts) + text(answer.text[position:])


def quoted(value: str) -> str:
    """Foreign text inside a sentence, kept from turning the direction of what follows."""
    return f"<bdi>{text(value)}</bdi>"


def num_wrong(answer: Answer) -> int:
    """How many hallucinated words and missed objects an answer has."""
    return sum(kind == "hallucinated" for _, _, kind in answer.spans) + len(answer.missed)


def _tally(answer: Answer) -> str:
    absent = sum(kind == "hallucinated" for _, _, kind in answer.spans)
    counts = [f"{count} {word}" for count, word in ((absent, "absent"), (len(answer.missed), "missed")) if count]
    if counts:
        return f'<span class="tally bad">{" · ".join(counts)}</span>'
    return '<span class="tally good">✓ all right</span>' if answer.spans else ""


def _objects(card: Card) -> str:
    if not card.boxes:
        return ""
    return "In the picture: " + text(", ".join(label for label, _ in card.boxes))


def _overlay(card: Card, colours: Mapping[str, int]) -> str:
    size = max(card.width, card.height) * _LABEL_SIZE
    shapes, labels, taken = [], [], []
    inside = [_inside(label, box, card) for label, box in card.boxes]
    for (label, _), (x1, y1, x2, y2) in zip(card.boxes, inside, strict=True):
        i = colours[label]
        rectangle = f'x="{x1:.2f}" y="{y1:.2f}" width="{x2 - x1:.2f}" height="{y2 - y1:.2f}"'
        shapes.append(f'<rect class="halo" {rectangle}/><rect class="edge b{i % 6}" {rectangle}/>')
        place = _label_place((x1, y1, x2, y2), len(label), card, size, taken, inside)
        taken.append(place)
        left, top, right, bottom = place
        labels.append(
            f'<rect class="plate b{i % 6}" x="{left:.2f}" y="{top:.2f}" '
            f'width="{right - left:.2f}" height="{bottom - top:.2f}" '
            f'rx="{size * 0.15:.2f}"/><text x="{(left + right) / 2:.2f}" y="{bottom - size * 0.32:.2f}" '
            f'font-size="{size:.2f}" text-anchor="middle">{text(label)}</text>'
        )
    return (
        f'<svg class="boxes" viewBox="0 0 {card.width} {card.height}" aria-hidden="true">'
        f"{''.join(shapes)}{''.join(labels)}</svg>"
    )


def _inside(label: str, box: Box, card: Card) -> Box:
    x1, y1, x2, y2 = box
    if not all(math.isfinite(value) for value in box) or x2 < x1 or y2 < y1:
        raise ValueError(f"box of {label}: {box} is not (left, top, right, bottom); give finite numbers in that order")
    across, down = float(card.width), float(card.height)
    return (
        min(max(x1, 0.0), across),
        min(max(y1, 0.0), down),
        min(max(x2, 0.0), across),
        min(max(y2, 0.0), down),
    )


def _label_place(
    box: Box, num_letters: int, card: Card, size: float, taken: Sequence[Box], shapes: Sequence[Box]
) -> Box:
    """The place beside, above or below the box, else inside it, that hides least of other labels and of all shapes."""
    wide, tall = num_letters * size * _LETTER + size * 0.6, size * 1.3
    x1, y1, x2, y2 = box
    centred = min(max((x1 + x2 - wide) / 2, 0.0), max(0.0, card.width - wide))
    corners = [(left, top) for top in (y1 - tall, y2) for left in (centred, x1, x2 - wide)]
    corners += [(left, top) for left in (x1 - wide, x2) for top in ((y1 + y2 - tall) / 2, y1, y2 - tall)]
    corners += [(centred, y1), (centred, y2 - tall)]
    places = [(left, top, left + wide, top + tall) for left, top in corners]
    places = [p for p in places if p[0] >= 0 and p[1] >= 0 and p[2] <= card.width and p[3] <= card.height]
    places = places or [(centred, 0.0, centred + wide, tall)]

    def hidden(place: Box) -> float:
        return sum(4 * _overlap(place, other) for other in taken) + sum(_overlap(place, shape) for shape in shapes)

    return min(places, key=hidden)


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, tall)
