"""Replies of judges on disk: one append-only file in a folder, safe after every write, so that no kill costs a reply.

    runs/judges/NAME/
      answers.jsonl   {"key": ..., "asked": {...}, "text": ..., "prompt_tokens": ..., ...}, one reply a line
      .lock           held by the one process that writes

A line is on disk before anybody reads the reply; a torn last line is dropped when the folder is opened. Knows neither
what was asked nor what a reply means.
"""

import errno
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sightline.rewards.ask import Question, Reply, question_as_plain

FILE = "answers.jsonl"
LONGEST_LINE = 64 * 2**20
MANY_TOKENS = 2**63
_FIELDS = ("text", "refused", "finished", "prompt_tokens", "completion_tokens")


class KeptAnswers:
    """The replies kept in one folder. State: where in the file each key stands, and the lock; leave it with `close`."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, made when it is not there; refused while another process writes in it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            problem = f"{folder} cannot keep replies: {error.filename} is a file"
            raise ValueError(f"{problem}; name another folder (cache)") from error
        self._lock: int | None = _locked(folder)
        try:
            self._file: BinaryIO = os.fdopen(_opened(folder / FILE, os.O_APPEND), "a+b")
        except ValueError:
            os.close(self._lock)
            raise
        try:
            self._places = _places(self._file, folder / FILE)
        except ValueError:
            self.close()
            raise

    def __enter__(self) -> "KeptAnswers":
        """The replies themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __len__(self) -> int:
        """How many replies are kept."""
        return len(self._places)

    def get(self, key: str) -> Reply | None:
        """The reply under this key."""
        place = self._places.get(key)
        if place is None:
            return None
        self._file.seek(place)
        return replace(_read(self._file.readline())[1], cached=True)

    def put(self, rows: Sequence[tuple[str, Question, Reply]]) -> None:
        """Append replies; they are on disk when it returns."""
        if not rows:
            return
        place = self._file.seek(0, os.SEEK_END)
        lines = [_line(key, question, reply) for key, question, reply in rows]
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        for (key, _, _), line in zip(rows, lines, strict=True):
            self._places[key] = place
            place += len(line)

    def close(self) -> None:
        """Let file and lock go."""
        self._file.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _line(key: str, question: Question, reply: Reply) -> bytes:
    given: Mapping[str, object] = {
        "text": reply.text,
        "refused": reply.refused,
        "finished": reply.finished,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }
    # Escaped to ASCII: a reply may hold half of a surrogate pair, which no UTF-8 file takes.
    return json.dumps({"key": key, "asked": question_as_plain(question), **given}).encode() + b"\n"


def _places(file: BinaryIO, path: Path) -> dict[str, int]:
    """Where the line of each key begins; what a kill left half-written at the end is cut off."""
    places: dict[str, int] = {}
    place, number = 0, 1
    file.seek(0)
    while line := file.readline(LONGEST_LINE + 1):
        if not line.endswith(b"\n") and len(line) <= LONGEST_LINE:
            file.truncate(place)
            break
        try:
            key, _ = _read(line)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            problem = f"{path}: line {number} is no kept reply"
            raise ValueError(f"{problem}; remove that line, or the whole file") from error
        places[key] = place
        place, number = place + len(line), number + 1
    return places


def _read(line: bytes) -> tuple[str, Reply]:
    """Key and reply of a line; a line that was damaged or made up is refused as a whole."""
    row = json.loads(line)
    reply = Reply(**{name: row[name] for name in _FIELDS})
    key, text, tokens = row["key"], reply.text, (reply.prompt_tokens, reply.completion_tokens)
    good = isinstance(key, str) and isinstance(text, str | None)
    good = good and isinstance(reply.refused, bool) and isinstance(reply.finished, bool)
    if not good or not all(type(num) is int and 0 <= num < MANY_TOKENS for num in tokens):
        raise ValueError("a field of another type")
    return key, reply


def _opened(path: Path, flags: int = 0) -> int:
    """A file of ours to read and write; never one that a link names, which may be anybody's."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"{path} is a link, and what it leads to would be written; remove it") from error


def _locked(folder: Path) -> int:
    descriptor = _opened(folder / ".lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        owner = os.read(descriptor, 20).decode(errors="replace") or "unknown"
        os.close(descriptor)
        problem = f"{folder} is being written by another process (id {owner})"
        raise ValueError(f"{problem}; wait until it ends, or name another folder (cache)") from error
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor
