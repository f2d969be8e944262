"""What a converter is: a function from published files to rows, each of which is read when its turn comes.

A converter is `convert(published, *, option=...)`: it checks its options at once and gives one `Found` for every
row, in the order of the files. Options are keyword-only and have defaults.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sightline.data.sources.parts import Pictures
from sightline.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What somebody published, as it lies on this disk.

    Example: `Published(paths=(Path("refcoco_train.jsonl"),), pictures=Pictures(Path("coco")))`.
    """

    paths: Sequence[Path]
    """Files, or folders that hold some, in the order in which they are read."""
    pictures: Pictures
    """Where their pictures are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one row: a prompt, or the reason why it was left out.

    Example: `Outcome(left_out="more than 30 objects")`.
    """

    prompt: Prompt | None = None
    """The prompt; None for a row that is left out."""
    left_out: str = ""
    """Why, for a row that is good but not wanted."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What else is to be told ("crowd boxes skipped": 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row of a published file, not read yet.

    Example: `Found(file="train.jsonl", line=7, read=lambda: Outcome(prompt=prompt))`.
    """

    file: str
    """The file as it was named."""
    line: int
    """Line of a JSONL file, else number of the row; from 1."""
    read: Callable[[], Outcome]
    """Reads it; RecordError when it cannot be converted."""


class Converter(Protocol):
    """A function that reads one source; its keyword-only parameters are its options."""

    def __call__(self, published: Published, /) -> Iterator[Found]:
        """Every row, in order."""
        ...


def keep_between(num: int, least: int, most: int | None) -> str:
    """Why a picture with so many objects is left out; empty when it is not."""
    if num < least:
        return f"fewer than {_objects(least)}"
    return f"more than {_objects(most)}" if most is not None and num > most else ""


def check_between(least: int, most: int | None) -> None:
    """ValueError for bounds that nothing meets."""
    if least < 0 or (most is not None and most < least):
        problem = f"min_instances is {least} and max_instances {most}"
        raise ValueError(f"{problem}; give at least 0, and a maximum that is not below the minimum")


def _objects(num: int) -> str:
    return f"{num} object" if num == 1 else f"{num} objects"
