"""Vision-R1-Data (Zhan et al. 2025, arXiv 2503.18013): detection, grounding and referring, all as boxes with labels.

Reads the row layout that the released training code reads: image, problem, solution, width, height, num_instances,
target_id_maps. The size of the picture must be the one that the row states, since boxes are in its pixels.
"""

from collections.abc import Iterator
from typing import Any

from sightline.data.sources.contract import Found, Outcome, Published, check_between, keep_between
from sightline.data.sources.parts import (
    PLACEHOLDER,
    Size,
    check_size,
    count_of,
    question,
    text_of,
    true_object,
    value_of,
)
from sightline.data.sources.tables import Row, converted
from sightline.data.sources.wordings import from_griffon
from sightline.fields import expect, parse_json
from sightline.records import Prompt
from sightline.registry import did_you_mean

WORDINGS = ("qwen", "griffon")


def vision_r1(
    published: Published,
    /,
    *,
    wording: str = "qwen",
    suffix: str = "",
    min_instances: int = 0,
    max_instances: int | None = None,
) -> Iterator[Found]:
    """Questions for boxes, in Qwen's wording or as they are stored, which is Griffon's."""
    if wording not in WORDINGS:
        raise ValueError(f"wording is {wording!r}{did_you_mean(wording, WORDINGS)}")
    check_between(min_instances, max_instances)

    def convert(row: Row, number: int) -> Outcome:
        image = published.pictures.image(value_of(row, "image"), "image")
        size = (count_of(row, "width"), count_of(row, "height"))
        check_size(size, published.pictures.size(image, "image"), "width")
        objects = _objects(row, size)
        left_out = keep_between(len(objects), min_instances, max_instances)
        if left_out:
            return Outcome(left_out=left_out)
        task, words = _words(text_of(row, "problem"), wording)
        prompt = Prompt(
            id=f"vision_r1-{number}",
            task=task,
            messages=(question(words, [image], suffix=suffix),),
            truth={"objects": objects, "num_instances": len(objects)},
        )
        return Outcome(prompt=prompt)

    columns = ("image", "problem", "solution", "width", "height", "num_instances")
    return converted(published.paths, convert, columns=columns)


def _objects(row: Row, size: Size) -> list[dict[str, Any]]:
    """The objects of the solution, [[label, [[x1, y1, x2, y2]]], ...]; the inner brackets may be missing."""
    solution = _json(row, "solution")
    expect(isinstance(solution, list), "solution", "is not a list", "write [[label, [[x1, y1, x2, y2]]], ...]")
    objects = []
    for i, item in enumerate(solution):
        where = f"solution[{i}]"
        good = isinstance(item, list) and len(item) == 2 and isinstance(item[1], list)
        expect(good, where, "is not [label, [[x1, y1, x2, y2]]]", "write one label with its box")
        label, boxes = item
        boxes = boxes if all(isinstance(box, list) for box in boxes) else [boxes]
        expect(len(boxes) == 1, where, f"has {len(boxes)} boxes", "write one entry for each box")
        objects.append(true_object(label, boxes[0], size, where))
    stated = count_of(row, "num_instances")
    problem = f"is {stated}, and the solution has {len(objects)} boxes"
    expect(stated == len(objects), "num_instances", problem, "give the number of boxes")
    _check_known(row, objects)
    return objects


def _check_known(row: Row, objects: list[dict[str, Any]]) -> None:
    """Every label must be one of those that the row asks for, where it says which."""
    if row.get("target_id_maps") is None:
        return
    known = _json(row, "target_id_maps")
    expect(isinstance(known, dict), "target_id_maps", "is not an object", "write {category: number}")
    names = {str(name).strip().lower() for name in known}
    for i, item in enumerate(objects):
        problem = f"is {item['label']!r}, which target_id_maps lacks"
        expect(item["label"].lower() in names, f"solution[{i}].label", problem, "give it a number there")


def _json(row: Row, name: str) -> Any:
    value = value_of(row, name)
    return parse_json(value, name) if isinstance(value, str) else value


def _words(problem: str, wording: str) -> tuple[str | None, str]:
    """The task and the words in which it is asked for."""
    problem = problem.removeprefix(PLACEHOLDER).strip()
    known = from_griffon(problem)
    if wording == "griffon":
        return (None if known is None else known[0]), problem
    expect(known is not None, "problem", "is in none of Griffon's three wordings", "use wording griffon to keep it")
    assert known is not None
    return known
