"""The page docs/data.md tells the present truth about fields and messages."""

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.data.parquet import SCHEMA
from sightline.records import (
    Completion,
    Group,
    Image,
    Label,
    Message,
    Pair,
    Prompt,
    Rank,
    Reward,
    Span,
    group_from_dict,
    group_to_dict,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
PLAIN = re.sub(r"\s+", " ", PAGE.replace("`", ""))
SOURCES = [ROOT / "src" / "sightline" / name for name in ("fields.py", "signals.py", "records.py")]
SOURCES += sorted((ROOT / "src" / "sightline" / "data").glob("*.py"))
RECORDS = (Group, Prompt, Message, Completion, Pair, Rank, Label, Reward, Span)


def messages_in(source: Path) -> Iterator[ast.expr]:
    """What stands for `problem` and `cure` where errors are raised."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            first = {"RecordError": 1, "expect": 2}.get(node.func.id)
            if first is not None:
                yield from node.args[first : first + 2]
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("problem", "cure"):
            yield node.value


def patterns(message: ast.expr) -> Iterator[str]:
    """A regular expression for each thing that the message may say; none where it is only handed on."""
    if isinstance(message, ast.IfExp):
        yield from patterns(message.body)
        yield from patterns(message.orelse)
    elif isinstance(message, ast.Constant):
        yield re.escape(message.value)
    elif isinstance(message, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else None for part in message.values]
        if any(part and part.strip() for part in parts):
            yield "".join("[^|]+?" if part is None else re.escape(part) for part in parts)


MESSAGES = sorted({p for source in SOURCES for message in messages_in(source) for p in patterns(message)})


def test_there_are_messages_to_look_for() -> None:
    assert len(MESSAGES) > 80


@pytest.mark.parametrize("message", MESSAGES)
def test_the_page_has_every_message(message: str) -> None:
    assert re.search(message, PLAIN), f"docs/data.md lacks a row for: {message}"


@pytest.mark.parametrize("record", RECORDS)
def test_the_page_explains_every_field(record: type) -> None:
    for field in dataclasses.fields(record):
        assert re.search(rf"^\|.*`{field.name}`.*\|", PAGE, re.MULTILINE), field.name


def test_the_page_explains_every_column() -> None:
    for name in SCHEMA.names:
        assert re.search(rf"^\| `{name}` \|", PAGE, re.MULTILINE), name


def rows() -> list[dict]:
    full, small, *_ = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    return [json.loads(full), *map(json.loads, small.splitlines())]


def test_the_rows_of_the_page_are_rows() -> None:
    for row in rows():
        group_from_dict(row)


def test_the_full_row_has_every_field() -> None:
    full = rows()[0]
    kinds = {signal["kind"]: set(signal) for signal in full["signals"]}
    shared = {"source", "aspect", "time"}
    for record in (Pair, Rank, Label, Reward, Span):
        names = {field.name for field in dataclasses.fields(record)}
        assert kinds[record.__name__.lower()] | shared == names
    assert set(full["completions"][0]) == {field.name for field in dataclasses.fields(Completion)}
    assert set(full["prompt"]) == {field.name for field in dataclasses.fields(Prompt)}
    assert shared <= kinds["pair"]
    group = group_from_dict(full)
    assert {type(image) for image in (*group.prompt.images, *group.prompt.alternates.values())} == {Image}
    back = group_to_dict(group)
    assert back["prompt"] == full["prompt"]
    assert back["completions"] == full["completions"]
