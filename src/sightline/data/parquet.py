"""Groups as rows of Parquet: nested fields as JSON text, pictures as they are.

Owns the columns. The pictures of a row stand in one list of {bytes, path}, as Hugging Face datasets keeps
images; an image in the messages or alternates is its number in that list.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from sightline.fields import listed, parse_json, write_json
from sightline.records import SCHEMA_VERSION, Group, Image, RecordError, group_from_dict, group_to_dict

Row = tuple[int, Callable[[], Group]]
"""The number of a row, and the function that reads it or raises RecordError."""

_VERSION = b"sightline.schema_version"
_JSON = ("messages", "truth", "alternates", "completions", "signals")
_IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
SCHEMA = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.string(), nullable=False),
        pyarrow.field("task", pyarrow.string()),
        pyarrow.field("messages", pyarrow.string(), nullable=False),
        pyarrow.field("images", pyarrow.list_(_IMAGE)),
        pyarrow.field("truth", pyarrow.string()),
        pyarrow.field("alternates", pyarrow.string()),
        pyarrow.field("completions", pyarrow.string()),
        pyarrow.field("signals", pyarrow.string()),
    ],
    metadata={_VERSION: str(SCHEMA_VERSION)},
)

# A row group ends at so many rows or bytes of pictures, so that neither side holds much more in memory.
_MAX_ROWS = 1000
_MAX_BYTES = 64 * 2**20
_READ_ROWS = 64


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, from 1; RecordError names the file when it is broken or has other columns."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow)
            number = 0
            for batch in file.iter_batches(batch_size=_READ_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, lambda row=row: _group_of_row(row)
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"is not Parquet that can be read ({' '.join(str(error).split())})"
        raise RecordError(str(path), problem, "write the file again") from error


def num_parquet_rows(path: Path) -> int:
    """Rows of a file, from its footer; RecordError names the file when it is broken."""
    try:
        return pyarrow.parquet.read_metadata(path).num_rows
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"is not Parquet that can be read ({' '.join(str(error).split())})"
        raise RecordError(str(path), problem, "write the file again") from error


def write_parquet(file: BinaryIO, groups: Iterable[Group]) -> int:
    """Write the groups and return their number."""
    num_rows = num_bytes = 0
    rows: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetWriter(file, SCHEMA) as writer:
        for group in groups:
            row = _row_of_group(group)
            rows.append(row)
            num_rows += 1
            num_bytes += sum(len(image["bytes"] or b"") for image in row["images"])
            if len(rows) >= _MAX_ROWS or num_bytes >= _MAX_BYTES:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=SCHEMA))
                rows, num_bytes = [], 0
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=SCHEMA))
    return num_rows


def _check_columns(path: Path, schema: pyarrow.Schema) -> None:
    version = (schema.metadata or {}).get(_VERSION, str(SCHEMA_VERSION).encode()).decode()
    if version != str(SCHEMA_VERSION):
        cure = f"this version of Sightline reads {SCHEMA_VERSION}"
        raise RecordError(str(path), f"has schema_version {version}", cure)
    for name in schema.names:
        if name not in SCHEMA.names:
            raise RecordError(str(path), f"has unknown column {name!r}", f"known are {', '.join(SCHEMA.names)}")
    for name in ("id", "messages"):
        if name not in schema.names:
            raise RecordError(str(path), f"lacks the column {name!r}", "docs/data.md has all columns")


def _row_of_group(group: Group) -> dict[str, Any]:
    prompt, where = group.prompt, f"prompt {group.prompt.id!r}"
    images: list[dict[str, Any]] = []

    def number(image: Image) -> int:
        images.append({"bytes": image.data, "path": image.path})
        return len(images) - 1

    messages = [
        {
            "role": message.role,
            "content": [
                {"text": part} if isinstance(part, str) else {"image": number(part)} for part in message.content
            ],
        }
        for message in prompt.messages
    ]
    alternates = {name: number(image) for name, image in prompt.alternates.items()}
    rest = group_to_dict(replace(group, prompt=replace(prompt, messages=(), alternates={})))
    nested = {
        "messages": messages,
        "truth": rest["prompt"].get("truth"),
        "alternates": alternates or None,
        "completions": rest["completions"],
        "signals": rest["signals"],
    }
    columns = {name: None if value is None else write_json(value, where) for name, value in nested.items()}
    return {"id": prompt.id, "task": prompt.task, "images": images, **columns}


def _group_of_row(row: dict[str, Any]) -> Group:
    images = row.get("images") or []
    value = {name: _json_value(row[name], name) for name in _JSON if row.get(name) is not None}
    prompt = {name: row[name] for name in ("id", "task") if row.get(name) is not None}
    messages = listed(value, "messages", "prompt.messages")
    prompt["messages"] = [_with_images(item, images, f"prompt.messages[{i}]") for i, item in enumerate(messages)]
    if "truth" in value:
        prompt["truth"] = value["truth"]
    if "alternates" in value:
        prompt["alternates"] = _with_numbered(value["alternates"], images, "prompt.alternates")
    return group_from_dict({"prompt": prompt, **{k: value[k] for k in ("completions", "signals") if k in value}})


def _json_value(value: Any, column: str) -> Any:
    if not isinstance(value, str):
        raise RecordError(column, "is not a column of strings", "write this column as JSON text")
    return parse_json(value, column)


def _with_images(message: Any, images: list[Any], where: str) -> Any:
    """The message with pictures for numbers; what has another shape is left for the record to refuse."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    content = [_with_numbered(part, images, f"{where}.content[{i}]") for i, part in enumerate(message["content"])]
    return {**message, "content": content}


def _with_numbered(value: Any, images: list[Any], where: str) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _image(item, images, f"{where}.{key}") for key, item in value.items()}


def _image(value: Any, images: list[Any], where: str) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 0 <= value < len(images):
        raise RecordError(where, f"is image {value} of {len(images)}", "count the images of the row from 0")
    image = images[value]
    if not isinstance(image, dict) or set(image) - {"bytes", "path"}:
        raise RecordError(f"images[{value}]", "is not {bytes, path}", "write either, and null for the other")
    return {"bytes": image["bytes"]} if image.get("bytes") is not None else {"path": image.get("path")}
