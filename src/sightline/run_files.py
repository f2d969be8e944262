"""The files of a run folder as untrusted input: read within bounds, written whole, never through a link.

A copied run folder is somebody else's data. What is damaged in it is one sentence that names the file; what would
lead a write out of it is refused. Knows what no file is for.

Errors: RunError (a folder that is not what was asked for) > RunFailed (the run could not go on).
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sightline.bounded import MAX_YAML, Unreadable, lines_of, parse_json_bytes, parse_yaml, read_text, too_long

PARTIAL = ".partial-"
_MAX_FILE = 256 * 2**20
_TRACKERS = ("wandb", "tensorboard")  # they keep links of their own in folders of their own


class RunError(ValueError):
    """A run folder that is not what was asked for; one sentence with the cure."""


class RunFailed(RunError):
    """A run that could not go on (a full disk, say), with what to do."""


def named(target: str | Path) -> tuple[Path, str | None]:
    """A folder and what is named in it: `runs/dpo@best` is the checkpoint `best` of the run `runs/dpo`."""
    text = str(target)
    folder, _, which = text.rpartition("@")
    holds = lambda path: (Path(path) / "recipe.yaml").is_file()  # noqa: E731
    return (Path(folder), which) if folder and not holds(text) and holds(folder) else (Path(text), None)


def chosen(found: Mapping[int, Path], folder: Path, which: str | None) -> Path:
    """Of a run's checkpoints by step the one that `which` names: "best", "last", a step; None: the last."""
    if not found:
        raise RunError(f"{folder} has no checkpoint yet; let it train until train.save_every steps are done")
    last = found[max(found)]
    if which is None or which == "last":
        return last
    best = best_of(last)
    number = which.isascii() and which.isdigit() and len(which) < 19
    step = best if which == "best" else int(which) if number else None
    if step is not None and step in found:
        return found[step]
    problem = "is no checkpoint that is kept"
    if which == "best" and best is None:
        problem = "is not known: nothing was measured that would choose it (docs/metrics.md, validation)"
    there = ", ".join(f"@{step}{' (best)' if step == best else ''}" for step in found)
    raise RunError(f"{folder}@{which} {problem}; there are {there}, and @last")


def best_of(checkpoint: Path) -> int | None:
    """Step of the best checkpoint when this one was written, as its manifest says."""
    best = read_json(checkpoint / "manifest.json").get("best")
    step = best.get("step") if isinstance(best, dict) else None
    return step if isinstance(step, int) else None


def recipe_of(folder: str | Path) -> dict[str, Any] | None:
    """The resolved recipe of the run in this folder; None when there is no run."""
    path = Path(folder) / "recipe.yaml"
    if not path.is_file():
        return None
    try:
        values = parse_yaml(read_text(path, limit=MAX_YAML))
    except Unreadable as error:
        raise RunError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: holds no keys; put the recipe of the run back")
    return values


def read_json(path: Path, kind: type = dict) -> Any:
    """The value of a JSON file, an object unless it should be a list."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise too_long()
        value = parse_json_bytes(data)
    except Unreadable as error:
        raise RunError(f"{path}: {error.problem}; {_put_back(path)}") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({reason(error)}); {_put_back(path)}") from error
    if not isinstance(value, kind):
        raise RunError(f"{path}: is {'no object' if kind is dict else 'no list'}; {_put_back(path)}")
    return value


def read_rows(path: Path, needs: Mapping[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """The objects of a file of lines; a torn last line is left out. Every row has what it `needs`, of that kind."""
    rows = []
    for number, line in whole_lines(path):
        try:
            row = parse_json_bytes(line)
        except Unreadable as error:
            raise RunError(f"{path}:{number}: {error.problem}; {_put_back(path)}") from error
        check_row(row, needs, f"{path}:{number}", path)
        rows.append(row)
    return rows


def whole_lines(path: Path) -> list[tuple[int, bytes]]:
    """The lines of a file that may not be there, with their numbers; a torn last one is left out."""
    if not path.exists():
        return []
    found = []
    try:
        with path.open("rb") as file:
            for number, line in lines_of(file):
                if line is None:
                    raise RunError(f"{path}:{number}: {too_long().problem}; {_put_back(path)}")
                if line.endswith(b"\n"):
                    found.append((number, line))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({reason(error)}); {_put_back(path)}") from error
    return found


def check_row(row: Any, needs: Mapping[str, type | tuple[type, ...]], where: str, path: Path) -> None:
    """Refuse what is no object, lacks what it needs, or has something else in its place."""
    if not isinstance(row, dict):
        raise RunError(f"{where}: is no object; {_put_back(path)}")
    for name, kind in needs.items():
        if not isinstance(row.get(name), kind) or isinstance(row.get(name), bool):
            problem = f"{name} is {str(row[name])[:40]!r}" if name in row else f"{name} is missing"
            raise RunError(f"{where}: {problem}; {_put_back(path)}")


def _put_back(path: Path) -> str:
    return f"put {path.name} back from a copy, or remove what is damaged in it"


def open_lock(path: Path) -> int:
    """The descriptor of a lock file, made where there is none; a link or anything else that is no file is refused."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _not_ours(path) from error
        raise
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(descriptor)
        raise _not_ours(path)
    return descriptor


_held: set[tuple[int, int]] = set()
"""Locks of this process, by device and inode: the system gives them up as soon as any descriptor of the file is closed
here, so one that is held is never opened again to look at it."""


def take_lock(path: Path) -> int:
    """The descriptor of a lock that no other process holds; RunError names the one that does."""
    descriptor = open_lock(path)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        owner = os.read(descriptor, 20).decode("ascii", "replace") or "unknown"
        os.close(descriptor)
        problem = f"{path.parent} is being written by another process (id {owner})"
        raise RunError(f"{problem}; wait until it ends, or stop it first") from error
    facts = os.fstat(descriptor)
    _held.add((facts.st_dev, facts.st_ino))
    return descriptor


def give_lock(descriptor: int) -> None:
    """Let it go."""
    facts = os.fstat(descriptor)
    _held.discard((facts.st_dev, facts.st_ino))
    os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process that lives holds the lock, this one included."""
    try:
        facts = path.stat(follow_symlinks=False)
        if (facts.st_dev, facts.st_ino) in _held:
            return True
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def refuse_links(folder: Path) -> None:
    """RunError when a write into the folder could end outside it: a link or a device where a file should be."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting += [Path(entry.path)] if entry.name not in _TRACKERS else []
            elif not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_nlink > 1:
                raise _not_ours(Path(entry.path))


def _not_ours(path: Path) -> RunError:
    kind = "a folder" if path.is_dir() and not path.is_symlink() else "a link or no ordinary file"
    return RunError(f"{path}: is {kind}, and a run writes into its own folder alone; remove it")


def remove_left(folder: Path, names: Collection[str]) -> None:
    """Remove what a start with another recipe left behind, by name: the folder may hold things of others."""
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def append(path: Path, text: str) -> None:
    """Text behind what a file holds; never through a link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:
        file.write(text)


def drop_torn_line(path: Path) -> None:
    """Cut a last line that a kill left without its end."""
    if path.is_file() and not path.is_symlink():
        with path.open("rb+") as file:
            text = file.read()
            file.truncate(text.rfind(b"\n") + 1)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a whole file that is either the old or the new one at any moment; its folder is made."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    partial = path.with_name(f"{PARTIAL}{path.name}-{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Put a file or folder on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fingerprint(path: Path, *, size: int | None = None) -> dict[str, Any]:
    """Size and hash of a file, or of its beginning."""
    with path.open("rb") as file:
        if size is None:
            return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        head = file.read(size)
    return {"size": len(head), "sha256": hashlib.sha256(head).hexdigest()}


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words."""
    try:
        expected = read_json(checkpoint / "manifest.json")["files"]
    except (RunError, KeyError):
        return "manifest.json is missing or cannot be read"
    if not isinstance(expected, dict) or not expected:
        return "manifest.json names no files"
    for name, known in expected.items():
        path = checkpoint / name
        if not path.resolve().is_relative_to(checkpoint.resolve()):
            return f"manifest.json names {name!r}, which lies outside"
        if not path.is_file():
            return f"{name} is missing"
        if not isinstance(known, dict) or path.stat().st_size != known.get("size") or fingerprint(path) != known:
            return f"{name} is not the file that was written"
    return None


def expect_logged(folder: Path, checkpoint: Path, names: Collection[str]) -> None:
    """Refuse to go on from a checkpoint where rows that were logged before it are gone or changed."""
    logged = read_json(checkpoint / "manifest.json").get("rows", {})
    for name, known in logged.items() if isinstance(logged, dict) else ():
        path = folder / name
        size = known.get("size") if isinstance(known, dict) else None
        if name not in names or not isinstance(size, int):
            raise RunError(f"{checkpoint / 'manifest.json'}: rows cannot be read; remove that checkpoint")
        if path.is_file() and fingerprint(path, size=max(0, size)) == known:
            continue
        problem = "does not begin with what the run had logged" if path.is_file() else "is missing what was logged"
        cure = "put it back from a copy, or export this checkpoint and begin anew in another folder"
        raise RunError(f"{path}: {problem} up to {checkpoint.name}; {cure}")


def line(row: Mapping[str, Any]) -> str:
    """A row as one line."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def reason(error: Exception) -> str:
    """What an error of the system says, without its number."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
