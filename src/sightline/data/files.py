"""Groups on disk: JSONL (one group a line) and Parquet (one group a row), read row by row.

Owns what a file and every row of it must say before it is used. Opens no picture (images.py), counts no token
(check.py); the columns of Parquet are in parquet.py.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from sightline.bounded import lines_of, too_long
from sightline.data.parquet import Row, num_parquet_rows, parquet_rows, write_parquet
from sightline.records import Group, RecordError

_SUFFIXES = (".jsonl", ".parquet")

MEDIA_TOKENS = (
    "<image>",
    "<video>",
    "<|image|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<image_soft_token>",
    "<start_of_image>",
    "<end_of_image>",
    "<fake_token_around_image>",
    "<IMG_CONTEXT>",
)
"""Words that stand for a picture in some family of models; never text: image parts say where pictures are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that cannot be used; as text it is one line.

    Example: `str(bad)` is `train.jsonl:12: completions[0].text: is empty; write an answer or leave it out`.
    """

    file: str
    """The file as it was named."""
    line: int
    """Line of a JSONL file, row of a Parquet file; from 1."""
    field: str
    """Path of the field inside the row."""
    problem: str
    """What is wrong."""
    cure: str
    """What to do."""

    def __str__(self) -> str:
        """One line: where, what, cure."""
        return f"{self.file}:{self.line}: {self.field}: {self.problem}; {self.cure}"


def read_groups(
    path: str | Path,
    *,
    on_bad: Literal["error", "skip"] = "error",
    on_skip: Callable[[BadRow], None] | None = None,
) -> Iterator[tuple[int, Group]]:
    """The groups of a file, each with its line (from 1), read on demand; a missing file fails at once.

    A bad row raises a RecordError whose text is that of its BadRow, or goes to `on_skip`, which "skip" needs:
    no row is left out without somebody knowing.
    """
    assert on_bad == "error" or on_skip is not None, 'on_bad="skip" needs on_skip'
    path = Path(path)
    _check_file(path)
    rows = _jsonl_rows(path) if path.suffix == ".jsonl" else parquet_rows(path)
    return _good_rows(path, rows, on_skip if on_bad == "skip" else None)


def count_rows(path: str | Path) -> int:
    """How many rows a file has, good and bad, without reading what is in them."""
    path = Path(path)
    _check_file(path)
    if path.suffix != ".jsonl":
        return num_parquet_rows(path)
    with path.open("rb") as file:
        return sum(1 for _, line in lines_of(file) if line is None or line.strip())


def write_groups(path: str | Path, groups: Iterable[Group]) -> int:
    """Write .jsonl or .parquet and return the number of rows; the file appears when all of it is written."""
    path = Path(path)
    _check_suffix(path)
    with _whole_file(path) as file:
        return _write_jsonl(file, groups) if path.suffix == ".jsonl" else write_parquet(file, groups)


def check_text(group: Group) -> None:
    """RecordError for what a record may lack and a row of data may not: a question, answers, pure text."""
    messages = group.prompt.messages
    if not any(message.role == "user" for message in messages):
        raise RecordError("prompt.messages", "has no user message", "give at least one user message")
    if messages[-1].role != "user":
        where = f"prompt.messages[{len(messages) - 1}].role"
        raise RecordError(where, f"is {messages[-1].role} at the end", "end with the user; answers are completions")
    for i, message in enumerate(messages):
        if not any(message.content):
            raise RecordError(f"prompt.messages[{i}].content", "is empty", "write text or an image, or leave it out")
        for j, part in enumerate(message.content):
            if isinstance(part, str):
                where = f"prompt.messages[{i}].content[{j}].text"
                _check_media_tokens(part, where, lacks_image=not group.prompt.images)
    for i, completion in enumerate(group.completions):
        where = f"completions[{i}].text"
        if not completion.text.strip() and not completion.token_ids:
            # A sampled answer may be empty: its tokens (the end of turn) are there to be scored.
            raise RecordError(where, "is empty", "write an answer or leave the completion out")
        _check_media_tokens(completion.text, where, lacks_image=False)


def _check_media_tokens(text: str, where: str, *, lacks_image: bool) -> None:
    token = next((token for token in MEDIA_TOKENS if token in text), None)
    if token is not None and lacks_image:
        cure = 'write {"image": ...} as a part of its own where the picture belongs'
        raise RecordError(where, f"holds {token} and the row has no image", cure)
    if token is not None:
        cure = "take it out: image parts alone say where pictures are"
        raise RecordError(where, f"holds {token} as text", cure)


def _good_rows(
    path: Path, rows: Iterator[Row], on_skip: Callable[[BadRow], None] | None
) -> Iterator[tuple[int, Group]]:
    lines: dict[str, int] = {}
    for line, read in rows:
        try:
            group = read()
            check_text(group)
            first = lines.setdefault(group.prompt.id, line)
            if first != line:
                problem = f"{group.prompt.id!r} is that of line {first} too"
                raise RecordError("prompt.id", problem, "give every row a string of its own")
        except RecordError as error:
            bad = bad_row(path, line, error)
            if on_skip is None:
                raise RecordError(f"{path}:{line}: {bad.field}", bad.problem, bad.cure) from error
            on_skip(bad)
        else:
            yield line, group


def bad_row(path: str | Path, line: int, error: RecordError) -> BadRow:
    """The error of a row with the place of the row."""
    problem = " ".join(error.problem.split())
    return BadRow(file=str(path), line=line, field=error.where, problem=problem, cure=error.cure)


def _check_suffix(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        problem = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise RecordError(str(path), problem, "data files are .jsonl or .parquet")


def _check_file(path: Path) -> None:
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "is not there"
        folder = path.parent
        beside = sorted(folder.iterdir()) if folder.is_dir() else []
        names = {other.stem: other for other in beside if other.suffix in _SUFFIXES}
        close = difflib.get_close_matches(path.stem, names, n=1)
        cure = f"did you mean {names[close[0]]}?" if close else "name a .jsonl or .parquet file (data.files)"
        raise RecordError(str(path), problem, cure)
    _check_suffix(path)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line, raw in lines_of(file):
            if line == 1 and raw is not None:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put before UTF-8
            if raw is None or raw.strip():
                yield line, lambda raw=raw: _group_of_line(raw)


def _group_of_line(raw: bytes | None) -> Group:
    if raw is None:
        error = too_long()
        raise RecordError("row", error.problem, error.cure)
    try:
        return Group.from_json(raw.decode().rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise RecordError("row", f"is not UTF-8 (byte {error.start + 1})", "save the file as UTF-8") from error


def _write_jsonl(file: BinaryIO, groups: Iterable[Group]) -> int:
    num_rows = 0
    for group in groups:
        file.write(group.to_json().encode() + b"\n")
        num_rows += 1
    return num_rows


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only at the end; row by row, where journal.atomic_write takes the whole."""
    partial = path.with_name(f".partial-{path.name}-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
