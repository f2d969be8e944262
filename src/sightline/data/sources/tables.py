"""Rows of published files: JSONL, a JSON list, Parquet, Arrow, and folders that `datasets` saved to disk.

Owns what others' files look like as files; knows no column. All but a JSON list are read row by row.
"""

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from sightline import bounded
from sightline.bounded import lines_of, too_long
from sightline.data.sources.contract import Found, Outcome
from sightline.fields import RecordError, expect, parse_json

Row = dict[str, Any]
_READ_ROWS = 64
_LFS = b"version https://git-lfs"
_ENDINGS = (".jsonl", ".json", ".parquet", ".arrow")


def converted(
    paths: Sequence[Path], convert: Callable[[Row, int], Outcome], *, columns: tuple[str, ...]
) -> Iterator[Found]:
    """Every row of the files as a Found that `convert` reads; it is given the row and its number over all files.

    A file of columns that lacks one of `columns` is refused as a whole; in JSON each row answers for itself.
    """
    number = 0
    for path in (file for named in paths for file in _files_of(named)):
        for line, read in _READERS[path.suffix](path, columns):
            number += 1
            yield Found(file=str(path), line=line, read=partial(_read, read, convert, number))


def check_file(path: Path) -> None:
    """RecordError for a file that is not there, or is not the data but a pointer to it."""
    if not path.exists():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, n=1)
        cure = f"did you mean {path.with_name(close[0])}?" if close else "nothing is downloaded: fetch it first"
        raise RecordError(str(path), "is not there", cure)
    with path.open("rb") as file:
        pointer = file.read(len(_LFS)) == _LFS
    expect(not pointer, str(path), "is a Git LFS pointer and not the data", "fetch the data (git lfs pull)")


def read_json(path: Path, *, without: Collection[str] = ()) -> Any:
    """The value of a whole file of JSON."""
    try:
        return bounded.parse_json(_text_of(path), whole_file=True, without=without)
    except bounded.Unreadable as error:
        raise RecordError(str(path), error.problem, error.cure) from error


def _text_of(path: Path) -> str:
    try:
        return bounded.read_text(path, limit=bounded.WHOLE_FILE * bounded.MAX_JSON)
    except bounded.Unreadable as error:
        raise RecordError(str(path), error.problem, error.cure) from error


def _read(read: Callable[[], Any], convert: Callable[[Row, int], Outcome], number: int) -> Outcome:
    row = read()
    expect(isinstance(row, dict), "row", "is not an object", "write named values")
    return convert(row, number)


def _files_of(path: Path) -> list[Path]:
    """The file itself, or the data files of a saved folder."""
    if path.is_dir():
        return _saved_files(path)
    check_file(path)
    if path.suffix not in _ENDINGS:
        problem = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise RecordError(str(path), problem, f"these are read: {', '.join(_ENDINGS)}, folders of save_to_disk")
    return [path]


def _saved_files(folder: Path) -> list[Path]:
    splits, state = folder / "dataset_dict.json", folder / "state.json"
    if splits.is_file():
        names = [str(name) for name in _json_file(splits, "splits")]
        cure = f"name one of them: {', '.join(str(folder / name) for name in names)}"
        raise RecordError(str(folder), "holds the splits of a data set", cure)
    if not state.is_file():
        problem = "is a folder without state.json, so not one that save_to_disk wrote"
        raise RecordError(str(folder), problem, "name the data files in it one by one")
    files = []
    for item in _json_file(state, "_data_files"):
        name = item.get("filename") if isinstance(item, dict) else None
        good = isinstance(name, str) and Path(name).name == name and Path(name).suffix == ".arrow"
        expect(good, str(state), f"names the file {name!r}", "save the data set again")
        files += _files_of(folder / str(name))
    return files


def _json_file(path: Path, key: str) -> list[Any]:
    value = read_json(path)
    found = value.get(key) if isinstance(value, dict) else None
    good = isinstance(found, list)
    expect(good, str(path), f"has no list {key!r}", "save the data set again")
    return found or []


Read = tuple[int, Callable[[], Any]]


def _json_lines(path: Path, columns: tuple[str, ...]) -> Iterator[Read]:
    with path.open("rb") as file:
        for line, raw in lines_of(file):
            if raw is None or raw.strip():
                yield line, partial(_json_line, raw)


def _json_line(raw: bytes | None) -> Any:
    if raw is None:
        error = too_long()
        raise RecordError("row", error.problem, error.cure)
    try:
        return parse_json(raw.decode("utf-8-sig").strip(), "row")
    except UnicodeDecodeError as error:
        raise RecordError("row", f"is not UTF-8 (byte {error.start + 1})", "save the file as UTF-8") from error


def _json_list(path: Path, columns: tuple[str, ...]) -> Iterator[Read]:
    """A list of rows; a file that does not begin as one is taken for lines, as some are named."""
    with path.open("rb") as file:
        begins = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begins.startswith(b"["):
        yield from _json_lines(path, columns)
        return
    for number, row in enumerate(read_json(path), start=1):
        yield number, partial(_same, row)


def _same(row: Any) -> Any:
    return row


def _parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Read]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, columns)
            yield from _numbered(file.iter_batches(batch_size=_READ_ROWS))
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet", error) from error


def _arrow_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Read]:
    try:
        with pyarrow.memory_map(str(path)) as source:
            # `datasets` writes the streaming format, which has no magic bytes; others write the file format.
            random_access = source.read(6) == b"ARROW1"
            source.seek(0)
            if random_access:
                reader = pyarrow.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                reader = batches = pyarrow.ipc.open_stream(source)
            _check_columns(path, reader.schema.names, columns)
            yield from _numbered(batches)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Arrow", error) from error


def _numbered(batches: Any) -> Iterator[Read]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _READ_ROWS):
            for row in batch.slice(start, _READ_ROWS).to_pylist():
                number += 1
                yield number, partial(_same, row)


def _check_columns(path: Path, names: Sequence[str], columns: tuple[str, ...]) -> None:
    missing = next((name for name in columns if name not in names), None)
    cure = f"this source needs {', '.join(columns)}; the file has {', '.join(names)}"
    expect(missing is None, str(path), f"lacks the column {missing!r}", cure)


def _unreadable(path: Path, kind: str, error: Exception) -> RecordError:
    problem = f"is not {kind} that can be read ({' '.join(str(error).split())})"
    return RecordError(str(path), problem, "fetch the file again")


_READERS: dict[str, Callable[[Path, tuple[str, ...]], Iterator[Read]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}
