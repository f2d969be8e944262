"""Scores of answers in a file: one row in, one row out, in order and as they come.

In: `{"id", "completion", "truth", "image": {"width", "height", "seen_width", "seen_height"}, "progress"}`, boxes of the
truth in pixels of the picture as stored. Out: `{"id", "value", "parts"}`, or `{"id", "error"}` for a row that cannot be
scored. Opens no file and no picture, and knows no model.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from sightline.fields import RecordError, count, expect, named, number, parse_json
from sightline.records import Completion
from sightline.rewards.boxes import Size
from sightline.rewards.contract import Judged, RewardContext
from sightline.rewards.pool import Call, RewardPool
from sightline.rewards.probes import check_values, pool_of

KEYS = frozenset(("id", "completion", "truth", "image", "progress", "prompt", "task"))
SIZES = ("width", "height", "seen_width", "seen_height")
BATCH = 256


def start_scoring(name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> RewardPool:
    """What judges with one reward; mistakes in name and options are found here. Close it after use.

    A reward that is not built in runs in a process of its own, with `timeout` seconds for each answer.
    """
    check_values(name, options)
    entries = [{"name": name, "options": dict(options)}]
    return pool_of(entries, num_workers=int(":" in name), timeout=timeout)


def score_lines(lines: Iterable[bytes], pool: RewardPool, name: str) -> Iterator[dict[str, Any]]:
    """A row for every line that is not blank, with the pool that `start_scoring` gave for the reward of this name."""
    numbered = ((i, line) for i, line in enumerate(lines, 1) if line.strip())
    while batch := list(islice(numbered, BATCH)):
        read = [_read(line, i) for i, line in batch]
        judged = iter(pool([call for _, call in read if isinstance(call, Call)]))
        for row_id, call in read:
            yield {"id": row_id} | (_scores(next(judged), name) if isinstance(call, Call) else {"error": call})


def _read(line: bytes, place: int) -> tuple[Any, Call | str]:
    """The id of a row, and what is to be judged or what is wrong with it."""
    row_id = None
    try:
        row = parse_json(line.decode(), f"line {place}")
        expect(isinstance(row, dict), f"line {place}", "is no JSON object", "write one object per line")
        given = row.get("id")
        expect(isinstance(given, str | int | float), f"line {place}: id", "is no text or number", "give each row one")
        row_id = given
        return row_id, _call({key: value for key, value in row.items() if value is not None}, f"line {place}")
    except UnicodeDecodeError:
        return row_id, f"line {place}: is not UTF-8; save the file as UTF-8"
    except RecordError as error:
        return row_id, str(error)


def _call(row: Mapping[str, Any], where: str) -> Call:
    for key in sorted(row.keys() - KEYS):
        meant = difflib.get_close_matches(key, KEYS - row.keys(), n=1, cutoff=0.8)
        expect(not meant, f"{where}: {key}", "is unknown", f"did you mean {''.join(meant)}?")
    expect(isinstance(row.get("completion"), str), f"{where}: completion", "is no text", "give the answer as text")
    expect(isinstance(row.get("truth"), dict), f"{where}: truth", "is no object", 'give it, such as {"objects": []}')
    progress = number(row.get("progress", 0.0), f"{where}: progress")
    expect(0 <= progress <= 1, f"{where}: progress", f"is {progress:g}", "give the share of the run, 0 to 1")
    image = named(row.get("image", {}), f"{where}: image", SIZES)
    context = RewardContext(
        truth=row["truth"],
        prompt=str(row.get("prompt", "")),
        task=row.get("task"),
        image_size=_size(image, "width", "height", where),
        seen_size=_size(image, "seen_width", "seen_height", where),
        progress=progress,
    )
    return Call(completion=Completion(text=row["completion"]), context=context)


def _size(image: Mapping[str, Any], width: str, height: str, where: str) -> Size | None:
    if image.get(width) is None and image.get(height) is None:
        return None
    for name in (width, height):
        good = count(image.get(name), f"{where}: image.{name}") > 0
        expect(good, f"{where}: image.{name}", "is 0", "give a whole number of pixels")
    return image[width], image[height]


def _scores(judged: Judged, name: str) -> dict[str, Any]:
    if judged.problem is not None:
        return {"error": judged.problem.removeprefix("raised ValueError: ")}
    if judged.value is None:
        return {"error": f"{name} has no opinion: the truth lacks what it needs; docs/rewards.md says what that is"}
    head = name.rpartition(":")[2] + "/"
    parts = {part.removeprefix(head): value for part, value in judged.parts.items() if part.startswith(head)}
    return {"value": judged.value, "parts": parts}
