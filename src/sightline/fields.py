"""Reads the fields of a row from plain JSON values, and refuses what is wrong by the name of the field.

Owns the error of a bad row and the wording of its problems. Knows no record and no file.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from sightline import bounded

Reader = Callable[[Any, str], Any]
"""From a JSON value and the path of its field to the field's value."""


class RecordError(ValueError):
    """A record that does not say what it must; `where` is the path of the field inside the row."""

    def __init__(self, where: str, problem: str, cure: str) -> None:
        """The message is one sentence: where it is, what is wrong, what to do."""
        super().__init__(f"{where}: {problem}; {cure}")
        self.where = where
        self.problem = problem
        self.cure = cure


class Record(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


RecordT = TypeVar("RecordT", bound=Record)


def parse_json(line: str, where: str) -> Any:
    """The value of one JSON text, within the bounds of every JSON that is read."""
    try:
        return bounded.parse_json(line)
    except bounded.Unreadable as error:
        raise RecordError(where, error.problem, error.cure) from error


def write_json(value: Any, where: str) -> str:
    """The value as one line of JSON; refused when it holds what JSON or a UTF-8 file cannot."""
    try:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        line.encode()
        bounded.check_numbers(line)
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"cannot be written as JSON ({error})"
        raise RecordError(where, problem, "keep to finite numbers, strings, lists and named values") from error
    return line


def expect(good: bool, where: str, problem: str, cure: str) -> None:
    """Raise the RecordError unless `good`."""
    if not good:
        raise RecordError(where, problem, cure)


def named(value: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    """An object that has no other keys than `names`."""
    expect(isinstance(value, dict), where, f"is {_show(value)}, not an object", f"give it {', '.join(names)}")
    unknown = next((key for key in value if key not in names), None)
    expect(unknown is None, where, f"has unknown field {unknown!r}", f"known are {', '.join(names)}")
    return value


def listed(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list under `key`, empty when the key is missing."""
    value = row.get(key, [])
    expect(isinstance(value, list), where, f"is {_show(value)}, not a list", "write a JSON list")
    return value


def read_record(kind: type[RecordT], readers: Mapping[str, Reader], row: Any, where: str) -> RecordT:
    """A dataclass from an object, each field by its reader; fields without a default must be there."""
    named(row, where, tuple(readers))
    for spec in fields(kind):
        required = spec.default is MISSING and spec.default_factory is MISSING
        missing = required and spec.name not in row
        expect(not missing, f"{where}.{spec.name}", "is missing", "give it; docs/data.md shows a whole row")
    return kind(**{name: readers[name](value, f"{where}.{name}") for name, value in row.items()})


def write_record(record: Record) -> dict[str, Any]:
    """The fields of a dataclass as plain JSON values; those at their default are left out."""
    row: dict[str, Any] = {}
    for spec in fields(record):
        value = getattr(record, spec.name)
        default = spec.default if spec.default_factory is MISSING else spec.default_factory()
        if value != default:
            row[spec.name] = _plain(value)
    return row


def text(value: Any, where: str) -> str:
    """A string that every file can hold."""
    expect(isinstance(value, str), where, f"is {_show(value)}, not a string", "write a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RecordError(where, "holds half of a surrogate pair", "write whole characters") from error
    return value


def flag(value: Any, where: str) -> bool:
    """True or false."""
    expect(isinstance(value, bool), where, f"is {_show(value)}", "write true or false")
    return value


def number(value: Any, where: str) -> float:
    """A finite number."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    expect(good, where, f"is {_show(value)}, not a number", "write a number")
    expect(abs(value) <= sys.float_info.max, where, "is not a finite number", "write a finite number")
    return float(value)


def count(value: Any, where: str) -> int:
    """A whole number from 0."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    expect(good, where, f"is {_show(value)}", "write a whole number, 0 or more")
    return value


def plain(value: Any, where: str) -> Any:
    """Any JSON value whose numbers are finite and whose text can be written."""
    if isinstance(value, dict):
        return {text(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float):
        return number(value, where)
    if value is None or isinstance(value, bool | int):
        return value
    return text(value, where)


def one_of(*choices: str) -> Reader:
    """A reader of one of these strings."""

    def read(value: Any, where: str) -> str:
        expect(value in choices, where, f"is {_show(value)}", f"use one of {', '.join(choices)}")
        return value

    return read


def optional(reader: Reader) -> Reader:
    """The same reader, which also takes null."""
    return lambda value, where: None if value is None else reader(value, where)


def tuple_of(reader: Reader) -> Reader:
    """A reader of lists."""

    def read(value: Any, where: str) -> tuple[Any, ...]:
        expect(isinstance(value, list), where, f"is {_show(value)}, not a list", "write a JSON list")
        return tuple(reader(item, f"{where}[{i}]") for i, item in enumerate(value))

    return read


def mapping_of(reader: Reader) -> Reader:
    """A reader of objects whose keys are free."""

    def read(value: Any, where: str) -> dict[str, Any]:
        expect(isinstance(value, dict), where, f"is {_show(value)}, not an object", "write named values")
        return {text(key, where): reader(item, f"{where}.{key}") for key, item in value.items()}

    return read


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _show(value: Any) -> str:
    """The value as a reader of the file knows it, short."""
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
