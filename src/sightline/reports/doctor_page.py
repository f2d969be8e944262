"""The doctor's page: every line with its cure, then pictures as the run will see them, with boxes where there are any.

Owns the order and the words around them. Knows neither how a check is made nor what a model is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline.journal import atomic_write
from sightline.reports.gallery import Box, Card, colours_of, picture_html, quoted
from sightline.reports.page import definitions, navigation, page, section, text

State = Literal["pass", "look", "fail", "skip"]
"""It holds; it holds, but somebody should look; it does not hold; it does not apply or could not be looked at."""
WORDS: Mapping[State, str] = {"pass": "pass", "look": "look", "fail": "fail", "skip": "not here"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was looked at.

    Example: `Line(name="picture is read", state="fail", said="a grey picture changes nothing", cure="...")`.
    """

    name: str
    """What was looked at, in two or three words."""
    state: State
    """How it stands."""
    said: str
    """What was found, with its numbers."""
    cure: str = ""
    """What to do; empty where there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One prompt with its picture and an answer."""

    prompt: str
    """Id of the prompt."""
    asked: str
    """The question."""
    answer: str
    """An answer of the data, or one that was sampled."""
    whose: str
    """Where the answer is from."""
    picture: bytes
    """The picture as a PNG file."""
    width: int
    """Pixels across, the unit of the boxes."""
    height: int
    """Pixels down."""
    facts: Mapping[str, str]
    """Sizes, tokens, and what the picture is worth."""
    true_boxes: tuple[tuple[str, Box], ...] = ()
    """What the prompt's truth says, in the picture's pixels."""
    said_boxes: tuple[tuple[str, Box], ...] = ()
    """What the answer says, read in the run's space, in the picture's pixels."""


def write_doctor_page(path: Path, *, name: str, lines: Sequence[Line], shown: Sequence[Shown], recipe: str) -> Path:
    """Write the page, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, doctor_page(name=name, lines=lines, shown=shown, recipe=recipe))
    return path


def doctor_page(*, name: str, lines: Sequence[Line], shown: Sequence[Shown], recipe: str) -> str:
    """The page as text; `recipe` is the resolved recipe."""
    wrong = [line for line in lines if line.state == "fail"]
    verdict = f"{len(wrong)} of {len(lines)} checks failed" if wrong else "Nothing is wrong"
    badge = f'<span class="badge {"failed" if wrong else "done"}">{text(verdict)}</span>'
    header = (
        '<header class="hero"><div class="headline"><p class="eyebrow">Sightline doctor</p>'
        f'<h1>{text(name)}</h1><p class="subtitle">{badge}</p></div></header>'
    )
    parts = {
        "checks": ("Checks", section("Checks", _table(lines), anchor="checks")),
        "pictures": ("Pictures", _pictures(shown)),
        "recipe": ("Recipe", section("Recipe", _folded(recipe), anchor="recipe")),
    }
    present = {anchor: title for anchor, (title, body) in parts.items() if body}
    body = "\n".join(body for _, body in parts.values() if body)
    return page(title=f"{name}: before the run", body=f"{header}{navigation(present)}<main>{body}</main>")


def _table(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        cure = f'<p class="cure"><b>What to do:</b> {text(line.cure)}</p>' if line.cure else ""
        rows.append(
            f'<tr class="check {text(line.state)}"><th scope="row">{text(line.name)}</th>'
            f'<td><span class="badge {text(line.state)}">{text(WORDS[line.state])}</span></td>'
            f"<td>{text(line.said)}{cure}</td></tr>"
        )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Checks"><table class="plain checks"><thead><tr>'
        '<th scope="col">Looked at</th><th scope="col">State</th><th scope="col">Found</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _pictures(shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    with_boxes = any(one.true_boxes or one.said_boxes for one in shown)
    lead = "As stored, with a question and an answer of the run."
    if with_boxes:
        lead += " Boxes on the left are what the prompt's truth says, on the right what the answer says when it is read"
        lead += " in the run's coordinate space: where the two lie apart by a scale, the space is wrong."
    cards = "".join(_card(one) for one in shown)
    return section("Pictures", f'<div class="cards">{cards}</div>', anchor="pictures", lead=lead)


def _card(one: Shown) -> str:
    panels = [("In truth", one.true_boxes), ("As answered", one.said_boxes)] if one.true_boxes or one.said_boxes else []
    panels = panels or [("", ())]
    colours = colours_of(label for _, boxes in panels for label, _ in boxes)
    drawn = "".join(
        f'<figure class="panel">{picture_html(_picture(one, boxes), colours)}'
        f"{f'<figcaption>{text(title)}: {_count(len(boxes))}</figcaption>' if title else ''}</figure>"
        for title, boxes in panels
    )
    return (
        f'<article class="card seen" aria-label="Prompt {text(one.prompt)}"><div class="panels">{drawn}</div>'
        f'<div class="said"><p class="prompt"><span>Asked</span> {quoted(one.asked)}</p>'
        f'<p class="prompt"><span>{text(one.whose)}</span> {quoted(one.answer)}</p>'
        f"{definitions({'prompt': one.prompt, **one.facts})}</div></article>"
    )


def _picture(one: Shown, boxes: tuple[tuple[str, Box], ...]) -> Card:
    return Card(picture=one.picture, width=one.width, height=one.height, boxes=boxes)


def _count(number: int) -> str:
    return f"{number} box{'es' * (number != 1)}"


def _folded(recipe: str) -> str:
    return f"<details><summary>recipe.yaml</summary><pre>{text(recipe)}</pre></details>"
