"""COCO detection annotations (`instances_*.json`): one prompt a picture, which lists the categories to look for.

The file is one JSON object and is read whole, without its outlines. Boxes of crowds mark no single object: they are
skipped and counted, and a category of which a picture shows nothing but crowds is not asked for there.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sightline.data.sources.contract import Found, Outcome, Published, check_between, keep_between
from sightline.data.sources.parts import (
    Pictures,
    Size,
    check_size,
    count_of,
    question,
    text_of,
    true_object,
    value_of,
)
from sightline.data.sources.tables import check_file, read_json
from sightline.data.sources.wordings import DETECT
from sightline.fields import expect, number
from sightline.records import Prompt
from sightline.registry import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The options of this source, checked.

    Example: `Asking(wording="Find {categories}.", num_categories=5, negatives=0.1)`.
    """

    wording: str
    """The question, with {categories} where the list belongs."""
    suffix: str = ""
    """Text after it."""
    num_categories: int | None = None
    """How many categories a question lists; None lists all of the file."""
    negatives: float = 0.0
    """Share of the prompts that ask only for what is not there."""
    min_instances: int = 1
    """Pictures with fewer objects are left out."""
    max_instances: int | None = None
    """Pictures with more objects are left out."""
    seed: int = 0
    """Another seed draws other absent categories and other negatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """One annotation file, in the shape in which prompts need it.

    Example: `Annotations(names={1: "person"}, pictures=[{"id": 7, ...}], of={7: [(0, {"category_id": 1, ...})]})`.
    """

    names: dict[Any, str]
    """Categories by their number, in the order of the file."""
    pictures: list[Any]
    """The rows of `images`."""
    of: dict[Any, list[tuple[int, Any]]]
    """Rows of `annotations` with their index, by the picture that they belong to."""


def coco(
    published: Published,
    /,
    *,
    wording: str = "qwen",
    suffix: str = "",
    num_categories: int | None = None,
    negatives: float = 0.0,
    min_instances: int = 1,
    max_instances: int | None = None,
    seed: int = 0,
) -> Iterator[Found]:
    """Questions for all objects of listed categories, with their boxes."""
    if wording not in DETECT and "{categories}" not in wording:
        cure = "; or write a question with {categories} where the list belongs"
        raise ValueError(f"wording is {wording!r}{did_you_mean(wording, DETECT)}{cure}")
    if not 0 <= negatives < 1:
        raise ValueError(f"negatives is {negatives}; give a share from 0 to below 1")
    if num_categories is not None and num_categories < 1:
        raise ValueError(f"num_categories is {num_categories}; list at least 1, or leave it out to list all")
    check_between(min_instances, max_instances)
    asking = Asking(
        wording=DETECT.get(wording, wording),
        suffix=suffix,
        num_categories=num_categories,
        negatives=negatives,
        min_instances=min_instances,
        max_instances=max_instances,
        seed=seed,
    )
    return (found for path in published.paths for found in _rows(path, published.pictures, asking))


def _rows(path: Path, pictures: Pictures, asking: Asking) -> Iterator[Found]:
    data = _annotations(path)
    negative = _negatives(data, asking)
    for line, row in enumerate(data.pictures, start=1):
        yield Found(file=str(path), line=line, read=partial(_outcome, row, data, negative, pictures, asking))


def _outcome(row: Any, data: Annotations, negative: set[Any], pictures: Pictures, asking: Asking) -> Outcome:
    expect(isinstance(row, dict), "row", "is not an object", "write named values")
    name = value_of(row, "id")
    expect(isinstance(name, int | str), "id", f"is {name!r}", "write a number or a string")
    size = (count_of(row, "width"), count_of(row, "height"))
    image = pictures.image(text_of(row, "file_name"), "file_name")
    check_size(size, pictures.size(image, "file_name"), "width")
    things, crowds = _things(data.of.get(name, ()))
    objects = [_object(index, thing, data, size) for index, thing in things]
    counts = {"crowd boxes skipped": len(crowds)} if crowds else {}
    left_out = keep_between(len(objects), asking.min_instances, asking.max_instances)
    if left_out:
        return Outcome(left_out=left_out, counts=counts)
    there = {item["label"] for item in objects}
    asked = _asked(name, there, _labels(crowds, data), data, asking, negative=name in negative)
    expect(bool(asked), "row", "leaves no category to ask for", "list more categories")
    objects = [] if name in negative else objects
    words = asking.wording.replace("{categories}", ", ".join(asked))
    prompt = Prompt(
        id=f"coco-{name}",
        task="detect",
        messages=(question(words, [image], suffix=asking.suffix),),
        truth={"objects": objects, "num_instances": len(objects)},
    )
    return Outcome(prompt=prompt, counts=counts)


def _asked(
    name: Any, there: set[str], crowded: set[str], data: Annotations, asking: Asking, *, negative: bool
) -> list[str]:
    """The categories that the question lists, in the order of the file: those that are there, and absent ones."""
    absent = [label for label in data.names.values() if label not in there | crowded]
    listed = set() if negative else set(there)
    if asking.num_categories is None:
        listed |= set(absent)
    else:
        absent.sort(key=lambda label: _draw(asking.seed, name, label))
        listed |= set(absent[: max(0, asking.num_categories - len(listed))])
    return [label for label in data.names.values() if label in listed]


def _negatives(data: Annotations, asking: Asking) -> set[Any]:
    """Pictures whose prompt asks only for what is not there, besides those that show nothing anyway."""
    if asking.negatives == 0:
        return set()
    candidates, num_kept, num_empty = [], 0, 0
    for row in data.pictures:
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(name, int | str):
            continue
        things, crowds = _things(data.of.get(name, ()))
        if not keep_between(len(things), asking.min_instances, asking.max_instances):
            num_kept += 1
            num_empty += not things
            shown = _labels(things, data) | _labels(crowds, data)
            if things and len(shown) < len(data.names):
                candidates.append(name)
    candidates.sort(key=lambda name: _draw(asking.seed, name, "negative"))
    return set(candidates[: max(0, round(asking.negatives * num_kept) - num_empty)])


def _things(annotations: Iterable[tuple[int, Any]]) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
    """Annotations of single objects, and of crowds."""
    things, crowds = [], []
    for index, item in annotations:
        (crowds if item.get("iscrowd") else things).append((index, item))
    return things, crowds


def _labels(annotations: Iterable[tuple[int, Any]], data: Annotations) -> set[str]:
    known = (data.names.get(item["category_id"]) for _, item in annotations)
    return {label for label in known if label is not None}


def _object(index: int, item: dict[str, Any], data: Annotations, size: Size) -> dict[str, Any]:
    where = f"annotations[{index}]"
    label = data.names.get(item["category_id"])
    expect(label is not None, where, f"has the unknown category {item.get('category_id')!r}", "list it in categories")
    box = item.get("bbox")
    good = isinstance(box, list) and len(box) == 4
    expect(good, where, "has no box of four numbers", "give bbox as [x, y, width, height]")
    assert isinstance(box, list)
    x, y, width, height = (number(value, f"{where}.bbox") for value in box)
    return true_object(label, [x, y, _plus(x, width), _plus(y, height)], size, where)


def _plus(start: float, length: float) -> float:
    """The sum of two decimal numbers as they are written: 473.07 + 38.65 is 511.72, to the last digit."""
    return float(Decimal(repr(start)) + Decimal(repr(length)))


def _draw(seed: int, *of: Any) -> bytes:
    """A key to sort by that is random and the same on every machine."""
    return hashlib.sha256("\0".join(map(str, (seed, *of))).encode()).digest()


def _annotations(path: Path) -> Annotations:
    data = _load(path)
    names: dict[Any, str] = {}
    for i, item in enumerate(data["categories"]):
        good = isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("id"), int | str)
        expect(good, f"{path}: categories[{i}]", "is not {id, name}", "give both")
        names[item["id"]] = item["name"].strip()
    repeated = next((name for name, num in Counter(names.values()).items() if num > 1), None)
    expect(repeated is None, f"{path}: categories", f"has {repeated!r} twice", "give each category one name")
    of: dict[Any, list[tuple[int, Any]]] = {}
    for i, item in enumerate(data["annotations"]):
        belongs = [item.get(key) for key in ("image_id", "category_id")] if isinstance(item, dict) else [None]
        good = all(isinstance(key, int | str) for key in belongs)
        expect(good, f"{path}: annotations[{i}]", "names no picture or no category", "give image_id and category_id")
        of.setdefault(item["image_id"], []).append((i, item))
    return Annotations(names=names, pictures=data["images"], of=of)


def _load(path: Path) -> dict[str, list[Any]]:
    expect(path.suffix == ".json", str(path), "is not a .json file", "name an instances_*.json of COCO's form")
    check_file(path)
    data = read_json(path, without=("segmentation",))  # polygons are most of the file and of no use here
    for key in ("images", "annotations", "categories"):
        good = isinstance(data, dict) and isinstance(data.get(key), list)
        expect(good, str(path), f"has no list {key!r}", "name an instances_*.json of COCO's form")
    return data
