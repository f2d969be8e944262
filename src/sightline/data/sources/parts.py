"""What converters share: pictures of a row, questions with pictures in them, boxes in pixels of the original.

A picture stays what it was, a path or the encoded file; only its header is read, and only where boxes need its size.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.data.images import ImageStore
from sightline.fields import RecordError, expect, text
from sightline.records import Image, Message

PLACEHOLDER = "<image>"
EDGE = 1.0
"""So many pixels a published box may lie beyond the edge: annotators' roundings, not another frame."""
Size = tuple[int, int]


class Pictures:
    """The pictures of published rows: paths below `root`, or files that a row carries.

    Example: `Pictures(Path("coco")).image("train2014/7.jpg", "image")` is `Image(path="train2014/7.jpg")`.
    """

    def __init__(self, root: Path | None) -> None:
        """Without a root only embedded pictures are taken."""
        self.root = root
        self.num_paths = 0
        """How many pictures so far are paths."""
        self._store = ImageStore(root)
        self._sizes: dict[str, Size] = {}

    def image(self, value: Any, where: str) -> Image:
        """The picture of a published value: a path, bytes, or {bytes, path} of which the bytes count."""
        if isinstance(value, dict) and not value.keys() - {"bytes", "path"}:
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes):
            return Image(data=value)
        good = isinstance(value, str) and value != ""
        expect(good, where, "is neither a path nor an embedded file", "give one of them in every row")
        image = Image(path=text(value, where))
        try:
            self._store.locate(image)
        except RecordError as error:
            raise _of_field(where, error) from error
        self.num_paths += 1
        return image

    def size(self, image: Image, where: str) -> Size:
        """Width and height of the upright picture."""
        if image.path in self._sizes:
            return self._sizes[image.path]
        try:
            size = self._store.size(image)
        except RecordError as error:
            raise _of_field(where, error) from error
        if image.path is not None:
            self._sizes[image.path] = size
        return size


def value_of(row: dict[str, Any], name: str) -> Any:
    """The value under a name; RecordError when there is none."""
    expect(row.get(name) is not None, name, "is missing", "the row cannot be converted without it")
    return row[name]


def text_of(row: dict[str, Any], name: str) -> str:
    """The text under a name, without outer space; RecordError when it is missing, empty or no text."""
    value = text(value_of(row, name), name).strip()
    expect(value != "", name, "is empty", "the row cannot be converted without it")
    return value


def count_of(row: dict[str, Any], name: str) -> int:
    """The whole number under a name, from 0."""
    value = value_of(row, name)
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    expect(good, name, f"is {value!r}", "write a whole number, 0 or more")
    return value


def question(words: str, images: Sequence[Image], *, suffix: str = "", where: str = "problem") -> Message:
    """The user's message: pictures where `<image>` stands in the words, or all of them before words without it."""
    pieces = [piece.strip() for piece in words.split(PLACEHOLDER)]
    if len(pieces) == 1:
        pieces = [*[""] * len(images), *pieces]
    problem = f"has {PLACEHOLDER} {len(pieces) - 1} times, for {len(images)} pictures"
    expect(len(pieces) - 1 == len(images), where, problem, "give each picture one place, or none at all")
    expect(any(pieces), where, "asks nothing", "write the question")
    content: list[str | Image] = [pieces[0]]
    for image, piece in zip(images, pieces[1:], strict=True):
        content += [image, piece]
    if suffix:
        last = content.pop()
        content.append(f"{last} {suffix}" if last else suffix)
    return Message(role="user", content=tuple(part for part in content if part != ""))


def true_object(label: Any, corners: Any, size: Size, where: str) -> dict[str, Any]:
    """One object of a truth, its numbers as they were published; RecordError when it cannot be one of this picture."""
    name = text(label, f"{where}.label").strip()
    expect(name != "", f"{where}.label", "is empty", "name the object")
    good = isinstance(corners, list) and len(corners) == 4 and all(map(_is_number, corners))
    expect(good, where, f"has the box {_short(corners)}", "give [x1, y1, x2, y2], four finite numbers")
    x1, y1, x2, y2 = corners
    expect(x1 < x2 and y1 < y2, where, f"has the box {corners}, which is empty", "give x1 < x2 and y1 < y2")
    width, height = size
    inside = min(x1, y1) >= -EDGE and x2 <= width + EDGE and y2 <= height + EDGE
    problem = f"has the box {corners}, outside the picture of {width} x {height}"
    expect(inside, where, problem, "give boxes in pixels of this very picture, neither scaled nor normalised")
    return {"label": name, "box": corners}


def check_size(stated: Size, real: Size, where: str) -> None:
    """RecordError when the row speaks of a picture of another size: its boxes would be in another frame."""
    problem = f"is {stated[0]} x {stated[1]}, and the picture {real[0]} x {real[1]}"
    expect(stated == real, where, problem, "give the picture to which the boxes belong, upright and not resized")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _of_field(where: str, error: RecordError) -> RecordError:
    return RecordError(where, f"{error.where} {error.problem}", error.cure)
