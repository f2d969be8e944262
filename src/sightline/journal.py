"""The run folder: written so that a kill at any moment leaves it readable and resumable.

    runs/NAME/
      recipe.yaml        the resolved recipe; written last when the folder is made: its presence makes a run
      environment.json   where the run began
      status.json        running, interrupted, failed or done
      metrics.jsonl      one line per log: {"step": 3, "loss/dpo": 0.61, "time/step": 0.2}
      samples.jsonl      greedy answers, from before the first update and at every checkpoint
      rollouts.jsonl     some groups that were sampled and judged, with rewards and advantages
      pictures/          the pictures that those two show, by content, none above 128 KiB
      watched.json       what the monitors look at, and where each becomes an alarm
      alarms.jsonl       the alarms that were raised
      skipped.jsonl      the bad rows that were left out
      checkpoints/step-000100/   each with manifest.json: sizes and sha256 of its files
      report.html        written by reports

Whole files appear by rename; lines are appended, and a torn last line is dropped; a checkpoint is a folder
that appears by rename after all of it is on disk. Timing values live under "time/..." only: those alone may
differ between a run and its repetition. Reading takes no lock; the first write takes it.
Knows nothing of training, plots or torch: what goes into a checkpoint is written by a function handed in.

How files are read and written, as untrusted input, is in run_files.py.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import yaml
from safetensors import SafetensorError

from sightline.run_files import (
    PARTIAL,
    RunError,
    RunFailed,
    append,
    atomic_write,
    best_of,
    check_row,
    chosen,
    damage_of,
    drop_torn_line,
    expect_logged,
    give_lock,
    is_held,
    line,
    named,
    read_json,
    read_rows,
    reason,
    recipe_of,
    refuse_links,
    remove_left,
    sync,
    take_lock,
    whole_lines,
)
from sightline.run_files import fingerprint as _fingerprint

__all__ = ["Follower", "Journal", "RunError", "RunFailed", "State", "atomic_write", "named", "recipe_of", "step_of"]

State = Literal["running", "interrupted", "failed", "done"]

_CHECKPOINT = re.compile(r"step-(\d{6,})")
_ROWS = ("metrics.jsonl", "samples.jsonl", "rollouts.jsonl", "alarms.jsonl")
_LEFT = ("watched.json", "skipped.jsonl", "own_answers.json", "start.json", "reward-failures", "bad-steps", "pictures")
_STEP = {"step": int}
_WATCHED = {"signal": str, "metric": str}
_ALARM = {"step": int, "signal": str, "since": int, "sentence": str}
_SIDES = ("above", "below", "above_first")


class Journal:
    """One run folder: make it with `create`, find it again with `open`, leave it with `close` or `with`."""

    def __init__(self, folder: Path, which: str | None = None) -> None:
        """The journal of a folder as it is; `create` and `open` check it first."""
        self.folder = folder
        self._checkpoints = folder / "checkpoints"
        self._lock: int | None = None
        self.which = which

    def __enter__(self) -> "Journal":
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the lock go."""
        self.close()

    @staticmethod
    def create(folder: str | Path, recipe: Mapping[str, Any], environment: Mapping[str, Any]) -> "Journal":
        """Make the folder of a new run; refused when a run is there already. A start without a checkpoint is none."""
        journal = Journal(Path(folder))
        try:
            journal.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            problem = f"{folder} cannot be a run folder: {error.filename} is a file"
            raise RunError(f"{problem}; choose another --out") from error
        journal.lock()
        if (before := recipe_of(folder)) is not None and journal.latest() is not None:
            journal.close()
            cure = f"go on with `sightline resume {folder}`, or choose another --out"
            raise RunError(f"{folder} already holds a run; {cure}")
        if before is not None and before != dict(recipe):
            remove_left(journal.folder, (*_ROWS, *_LEFT))
        atomic_write(journal.folder / "environment.json", _json(environment))
        journal.status("running", step=0)
        text = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
        atomic_write(journal.folder / "recipe.yaml", text)
        return journal

    @staticmethod
    def open(folder: str | Path) -> "Journal":
        """The journal of a run that exists, to read or (from the first write on, under the lock) to go on."""
        path, which = named(folder)
        if recipe_of(path) is None:
            problem = "holds no run (no recipe.yaml)" if Path(folder).is_dir() else "does not exist"
            cure = "name the folder that `sightline train` printed, such as runs/dpo_world"
            raise RunError(f"{folder} {problem}; {cure}")
        return Journal(path, which)

    def lock(self) -> None:
        """Keep other processes from writing here, and clear what a kill left half-written."""
        if self._lock is not None:
            return
        descriptor = take_lock(self.folder / ".lock")
        try:
            refuse_links(self.folder)
        except RunError:
            give_lock(descriptor)
            raise
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor
        for partial in self._checkpoints.glob(f"{PARTIAL}*"):
            shutil.rmtree(partial)
        for partial in self.folder.glob(f"{PARTIAL}*"):
            partial.unlink()
        for name in _ROWS:
            drop_torn_line(self.folder / name)

    def close(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            give_lock(self._lock)
            self._lock = None

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe of the run."""
        recipe = recipe_of(self.folder)
        assert recipe is not None
        return recipe

    def status(self, state: State, **facts: Any) -> None:
        """Say how the run stands: `status("interrupted", step=120)`."""
        self.lock()
        row = {"state": state, "time": _now(), "pid": os.getpid(), **facts}
        self._write_whole("status.json", _json(row))

    def read_status(self) -> dict[str, Any]:
        """How the run stands; one that was killed while it ran is interrupted, at its last checkpoint."""
        path = self.folder / "status.json"
        status = read_json(path)
        check_row(status, {"state": str}, str(path), path)
        if status["state"] == "running" and not is_held(self.folder / ".lock"):
            latest = self.latest()
            status |= {"state": "interrupted", "step": 0 if latest is None else step_of(latest)}
        return status

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line of numbers (null when not finite); log all of a step before its checkpoint."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._append("metrics.jsonl", [{"step": step, **finite}])

    def read_metrics(self) -> list[dict[str, float]]:
        """All lines in order, null as NaN; a torn last line is left out."""
        path = self.folder / "metrics.jsonl"
        rows = read_rows(path, _STEP)
        for number, row in enumerate(rows, start=1):
            check_row(row, dict.fromkeys(row, (int, float, type(None))), f"{path}:{number}", path)
        return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]

    def read_updates(self) -> list[dict[str, float]]:
        """The lines of updates; that of step 0, which holds what was measured before the first one, is left out."""
        return [row for row in self.read_metrics() if row["step"] > 0]

    def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append sampled answers, one line each."""
        self._append("samples.jsonl", [{"step": step, **row} for row in rows])

    def read_samples(self) -> list[dict[str, Any]]:
        """All sampled answers in order."""
        return read_rows(self.folder / "samples.jsonl", _STEP)

    def rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append groups that were sampled and judged, one line each; `step` is the first update on them."""
        self._append("rollouts.jsonl", [{"step": step, **row} for row in rows])

    def read_rollouts(self) -> list[dict[str, Any]]:
        """All such groups in order."""
        return read_rows(self.folder / "rollouts.jsonl", _STEP)

    def picture(self, data: bytes, ending: str) -> str:
        """Keep a picture by its content, once; its name inside the run folder."""
        name = f"pictures/{hashlib.sha256(data).hexdigest()[:32]}.{ending}"
        self._write_new(name, data)
        return name

    def watched(self, signals: Iterable[Mapping[str, Any]]) -> None:
        """Say what the monitors look at; replaces an earlier list."""
        self.lock()
        self._write_whole("watched.json", json.dumps(list(signals), ensure_ascii=False, indent=1) + "\n")

    def read_watched(self) -> list[dict[str, Any]]:
        """What the monitors look at; nothing in a run without monitors."""
        path = self.folder / "watched.json"
        rows = read_json(path, list) if path.is_file() else []
        for number, row in enumerate(rows, start=1):
            check_row(row, _WATCHED, f"{path}: entry {number}", path)
            check_row(row, {side: (int, float) for side in _SIDES if side in row}, f"{path}: entry {number}", path)
        return rows

    def alarm(self, step: int, row: Mapping[str, Any]) -> None:
        """Append an alarm that was raised."""
        self._append("alarms.jsonl", [{"step": step, **row}])

    def read_alarms(self) -> list[dict[str, Any]]:
        """All alarms in order."""
        return read_rows(self.folder / "alarms.jsonl", _ALARM)

    def skipped(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """List the bad rows of the data that this run leaves out; replaces an earlier list."""
        self.lock()
        self._write_whole("skipped.jsonl", "".join(line(row) for row in rows))

    def read_skipped(self) -> list[dict[str, Any]]:
        """The bad rows that were left out."""
        return read_rows(self.folder / "skipped.jsonl", {})

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        folders = [path for path in self._checkpoints.glob("step-*") if _CHECKPOINT.fullmatch(path.name)]
        return sorted((path for path in folders if (path / "manifest.json").is_file()), key=step_of)

    def checkpoint(self) -> Path:
        """The checkpoint that the run was opened at (`RUN@best`, `RUN@120`, `RUN@last`), else the last one."""
        return chosen({step_of(path): path for path in self.checkpoints()}, self.folder, self.which)

    def best(self) -> int | None:
        """Step of the best checkpoint so far, as the last one names it."""
        latest = self.latest()
        return None if latest is None else best_of(latest)

    def latest(self) -> Path | None:
        """The last complete checkpoint."""
        return next(reversed(self.checkpoints()), None)

    def write_checkpoint(
        self, step: int, write: Callable[[Path], None], *, best: Mapping[str, Any] | None = None
    ) -> Path:
        """Let `write(folder)` fill a checkpoint, which then appears as a whole; a sound one there is kept.

        `best` says which checkpoint is the best so far: its "step", and what it was chosen by.
        """
        self.lock()
        final = self._checkpoints / f"step-{step:06d}"
        if final.is_dir():
            if not damage_of(final):
                return final
            self._remove(final)
        partial = final.with_name(f"{PARTIAL}{final.name}-{os.getpid()}")
        try:
            partial.mkdir(parents=True)
            write(partial)
            self._seal(partial, step=step, best=best)
            partial.rename(final)
            sync(final.parent)
        except (OSError, SafetensorError) as error:
            kept = self.latest()
            stands = f"{kept.name} stands untouched" if kept else "there is no earlier checkpoint"
            raise RunFailed(f"{final} could not be written ({reason(error)}): {stands}; {self._cure()}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return final

    def verify(self, checkpoint: Path) -> None:
        """Refuse a checkpoint whose files are not those of its manifest."""
        damage = damage_of(checkpoint)
        if damage:
            cure = f"remove that folder, then `sightline resume {self.folder}` goes on from the one before"
            raise RunError(f"{checkpoint} is damaged: {damage}; {cure}")

    def prune(self, keep_last: int, kept: Collection[int] = ()) -> None:
        """Remove all checkpoints but the last ones and those of the steps `kept`."""
        assert keep_last >= 1, "the last checkpoint is what a run goes on from"
        self.lock()
        for checkpoint in self.checkpoints()[:-keep_last]:
            if step_of(checkpoint) not in kept:
                self._remove(checkpoint)

    def rewind(self, step: int) -> None:
        """Drop rows and checkpoints after `step`, so that going on from there repeats them; -1 drops all."""
        self.lock()
        for checkpoint in self.checkpoints():
            if step_of(checkpoint) == step:
                expect_logged(self.folder, checkpoint, _ROWS)
            if step_of(checkpoint) > step:
                self._remove(checkpoint)
        for name in _ROWS:
            path = self.folder / name
            if path.exists():
                rows = zip(whole_lines(path), read_rows(path, _STEP), strict=True)
                self._write_whole(name, b"".join(text for (_, text), row in rows if row["step"] <= step))

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.lock()
        try:
            append(self.folder / name, "".join(line(row) for row in rows))
        except OSError as error:
            raise self._not_written(name, error) from error

    def _write_whole(self, name: str, content: str | bytes) -> None:
        try:
            atomic_write(self.folder / name, content)
        except OSError as error:
            raise self._not_written(name, error) from error

    def _write_new(self, name: str, content: bytes) -> None:
        """A file that never changes, unless it is there."""
        self.lock()
        path = self.folder / name
        if not path.is_file():
            try:
                path.parent.mkdir(exist_ok=True)
                atomic_write(path, content)
            except OSError as error:
                raise self._not_written(name, error) from error

    def _not_written(self, name: str, error: OSError) -> RunFailed:
        return RunFailed(f"{self.folder / name} could not be written ({reason(error)}); {self._cure()}")

    def _cure(self) -> str:
        return f"make room and go on with `sightline resume {self.folder}`"

    def _seal(self, partial: Path, *, step: int, best: Mapping[str, Any] | None) -> None:
        """Put all that the checkpoint stands on, the rows up to its step included, on disk; manifest last."""
        rows = {name: self.folder / name for name in _ROWS if (self.folder / name).exists()}
        for path in rows.values():
            sync(path)
        inside = sorted(partial.rglob("*"))
        for path in inside:
            sync(path)
        names = {path.relative_to(partial).as_posix(): path for path in inside if path.is_file()}
        files = {name: _fingerprint(path) for name, path in names.items()}
        logged = {name: _fingerprint(path) for name, path in rows.items()}
        facts = {"schema_version": 1, "step": step, "best": best, "files": files, "rows": logged}
        atomic_write(partial / "manifest.json", _json(facts))

    def _remove(self, checkpoint: Path) -> None:
        """By rename first: a kill in between must not leave half a checkpoint under a good name."""
        doomed = checkpoint.with_name(f"{PARTIAL}removed-{checkpoint.name}-{os.getpid()}")
        checkpoint.rename(doomed)
        shutil.rmtree(doomed)


class Follower(Journal):
    """The journal of a run that several processes make, in all of them but the first: it reads, and writes nothing."""

    def lock(self) -> None:
        """The first process holds the lock."""

    def status(self, state: State, **facts: Any) -> None:
        """Said by the first process."""

    def write_checkpoint(
        self, step: int, write: Callable[[Path], None], *, best: Mapping[str, Any] | None = None
    ) -> Path:
        """Written by the first process."""
        return self._checkpoints / f"step-{step:06d}"

    def prune(self, keep_last: int, kept: Collection[int] = ()) -> None:
        """Done by the first process."""

    def rewind(self, step: int) -> None:
        """Done by the first process."""

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Written by the first process."""

    def _write_whole(self, name: str, content: str | bytes) -> None:
        """Written by the first process."""

    def _write_new(self, name: str, content: bytes) -> None:
        """Written by the first process."""


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint folder, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, indent=1) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
