"""What a run's policy said: before and after beside each other, and groups of rollouts with their rewards.

Reads rows of samples.jsonl and rollouts.jsonl (docs/data.md) and the pictures beside them. The folder may come from
anywhere: a row that is not of this form is shown as it is, and a picture outside `pictures/` is not opened.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.reports.gallery import Box, Card, picture_html, quoted
from sightline.reports.page import compact, section, text

_MOST_SAMPLES = 24
_MOST_GROUPS = 8
_MOST_ENDS = 2
"""Best and worst answers of a group that stand open."""
_PICTURE = re.compile(r"pictures/[0-9a-f]{1,64}\.(png|jpg|jpeg)")
_MOST_BYTES = 2**20
_MOST_SIDE = 100_000


def sample_section(rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The same prompts answered before the first update and by the last checkpoint."""
    if not rows:
        return ""
    steps = sorted({row.get("step", 0) for row in rows})
    first, last = steps[0], steps[-1]
    before = {_key(row): row for row in rows if row.get("step", 0) == first} if first != last else {}
    shown = [row for row in rows if row.get("step", 0) == last][:_MOST_SAMPLES]
    cards = "".join(_sample(row, before.get(_key(row)), folder, first, last) for row in shown)
    lead = f"{len(shown)} of {len(rows)} sampled answers: those of update {last}"
    lead += f", beside those of update {first}. " if before else ". "
    return section(
        "Answers", f'<div class="cards">{cards}</div>', anchor="samples", lead=lead + "samples.jsonl has all."
    )


def rollout_section(rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Groups that were learned from: of the first rollout that was kept, of the last, and some between."""
    groups = [row for row in rows if isinstance(row.get("answers"), list)]
    if not groups:
        return ""
    num = min(_MOST_GROUPS, len(groups))
    chosen = [groups[round(i * (len(groups) - 1) / max(1, num - 1))] for i in range(num)]
    cards = "".join(_group(row, folder) for row in chosen)
    lead = (
        f"{len(chosen)} of {len(groups)} groups that were kept, the earliest first; best answer first. The advantage "
        "is what an answer was pushed by. rollouts.jsonl has all."
    )
    return section("Rollouts", f'<div class="cards">{cards}</div>', anchor="rollouts", lead=lead)


def _sample(row: Mapping[str, Any], before: Mapping[str, Any] | None, folder: Path, first: Any, last: Any) -> str:
    said = ([_answer(before, f"Update {first}", 1)] if before is not None else []) + [_answer(row, f"Update {last}", 0)]
    if row.get("preferred"):
        said.append(_answer({"answer": row["preferred"]}, "Preferred by the data", 3))
    return _card(row, folder, "".join(said), {"answer", "preferred"})


def _group(row: Mapping[str, Any], folder: Path) -> str:
    answers = [answer for answer in row["answers"] if isinstance(answer, Mapping)]
    answers.sort(key=lambda answer: -_number(answer.get("reward"), -math.inf))
    said = [_answer({**answer, "answer": answer.get("text")}, "", 0) for answer in answers]
    if len(said) > 2 * _MOST_ENDS:
        between = "".join(said[_MOST_ENDS:-_MOST_ENDS])
        folded = f"<details><summary>{len(said) - 2 * _MOST_ENDS} answers between</summary>"
        said = [*said[:_MOST_ENDS], *said[-_MOST_ENDS:], f'{folded}<div class="answers">{between}</div></details>']
    when = f"Rollout {row.get('rollout', '?')}, update {row.get('step', '?')}"
    return _card(row, folder, "".join(said), {"answers"}, eyebrow=when)


def _card(row: Mapping[str, Any], folder: Path, said: str, handled: set[str], *, eyebrow: str = "") -> str:
    """Picture on the left where there is one, prompt and answers beside it."""
    pictures = _pictures(row, folder)
    scene = f'<div class="scene">{"".join(pictures)}</div>' if pictures else ""
    asked = str(row.get("asked", row.get("prompt", "")))
    head = f'<p class="eyebrow">{text(eyebrow)}</p>' if eyebrow else ""
    shown = {"asked", "prompt", "images", "truth", "task", "step", "rollout", "reward", "parts", "problem", "advantage"}
    rest = {name: value for name, value in row.items() if name not in shown | handled}
    more = "".join(f"<dt>{text(name)}</dt><dd>{text(_plain(value))}</dd>" for name, value in rest.items())
    more = f'<div class="sample"><dl>{more}</dl></div>' if more else ""
    kind = "card" if scene else "card alone"
    return (
        f'<article class="{kind}">{scene}<div class="said">{head}'
        f'<p class="prompt"><span>Asked</span> {quoted(asked)}</p><div class="answers">{said}</div>'
        f"{more}</div></article>"
    )


def _answer(row: Mapping[str, Any], name: str, style: int) -> str:
    words = row.get("answer")
    said = text(words) if isinstance(words, str) and words.strip() else '<em class="empty">(empty answer)</em>'
    if words is not None and not isinstance(words, str):
        said = text(_plain(words))
    facts = [f"reward {compact(_number(row['reward']))}"] if isinstance(row.get("reward"), int | float) else []
    if isinstance(row.get("advantage"), int | float):
        facts.append(f"advantage {compact(_number(row['advantage']))}")
    title = " · ".join([name] * bool(name) + facts)
    heading = f"<h4>{text(title)}</h4>" if title else ""
    parts = row.get("parts")
    small = [f"{k} {compact(_number(v))}" for k, v in parts.items()] if isinstance(parts, Mapping) else []
    small += [f"problem: {row['problem']}"] if row.get("problem") else []
    below = f'<p class="remark">{text(", ".join(small))}</p>' if small else ""
    return f'<div class="answer s{style}">{heading}<p class="words" dir="auto">{said}</p>{below}</div>'


def _pictures(row: Mapping[str, Any], folder: Path) -> list[str]:
    images = row.get("images")
    found = []
    for image in images if isinstance(images, list) else []:
        data = _read(image, folder)
        size = _size_of(image)
        if data is None or size is None:
            continue
        boxes = _true_boxes(row.get("truth"), size) if len(images or ()) == 1 else ()
        try:
            found.append(picture_html(Card(picture=data, width=size[0], height=size[1], boxes=boxes)))
        except ValueError:  # a file that only is called a picture
            continue
    return found


def _read(image: object, folder: Path) -> bytes | None:
    """The picture's bytes, if it is an ordinary file of modest size where pictures are kept."""
    name = image.get("file") if isinstance(image, Mapping) else None
    if not isinstance(name, str) or not _PICTURE.fullmatch(name):
        return None
    path = folder / name
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return None
    return path.read_bytes()


def _size_of(image: object) -> tuple[int, int] | None:
    size = image.get("size") if isinstance(image, Mapping) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(x) is int and 0 < x <= _MOST_SIDE for x in size):
        return None
    return size[0], size[1]


def _true_boxes(truth: object, size: Sequence[int]) -> tuple[tuple[str, Box], ...]:
    """What the truth says is where, when it says so in pixels of the picture."""
    objects = truth.get("objects") if isinstance(truth, Mapping) else None
    found = []
    for item in objects if isinstance(objects, list) else []:
        box = item.get("box") if isinstance(item, Mapping) else None
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(x, int | float) for x in box):
            return ()
        left, top, right, bottom = (float(x) for x in box)
        if not (0 <= left <= right <= size[0] and 0 <= top <= bottom <= size[1]):
            return ()
        found.append((str(item.get("label", "")), (left, top, right, bottom)))
    return tuple(found)


def _key(row: Mapping[str, Any]) -> str:
    return _plain(row.get("prompt", ""))


def _number(value: object, otherwise: float = math.nan) -> float:
    return float(value) if isinstance(value, int | float) else otherwise


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
