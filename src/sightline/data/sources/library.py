"""The sources by name, and the import of one of them: published files in, a file of groups without answers out.

Nothing is downloaded. Every row that cannot be converted is told with its file, row and reason; no row is left out
without being counted.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sightline.data.files import BadRow, bad_row, check_text, write_groups
from sightline.data.sources.clevr_count import clevr_count
from sightline.data.sources.coco import coco
from sightline.data.sources.contract import Converter, Found, Outcome, Published
from sightline.data.sources.geometry3k import geometry3k
from sightline.data.sources.parts import Pictures
from sightline.data.sources.vision_r1 import vision_r1
from sightline.data.sources.vlm_r1_rec import vlm_r1_rec
from sightline.fields import RecordError, expect
from sightline.records import Group
from sightline.registry import did_you_mean

SOURCES: Mapping[str, Converter] = {
    "vision_r1": vision_r1,
    "vlm_r1_rec": vlm_r1_rec,
    "clevr_count": clevr_count,
    "geometry3k": geometry3k,
    "coco": coco,
}
"""Every source that can be imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did.

    Example: `Imported(num_rows=10, num_groups=7, num_bad=1, left_out={"fewer than 1 object": 2})`.
    """

    num_rows: int
    """Rows that were read."""
    num_groups: int
    """Prompts that were written."""
    num_bad: int
    """Rows that cannot be converted."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Good rows that were not wanted, by reason."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What else is to be told ("crowd boxes skipped": 12)."""
    root: Path | None = None
    """Folder that image paths are relative to; None when there are none."""


def check_source(name: str, options: Mapping[str, Any]) -> None:
    """ValueError for a source that is not known, or an option that it does not take."""
    if name not in SOURCES:
        raise ValueError(f"source {name!r} is unknown{did_you_mean(name, SOURCES)}")
    parameters = inspect.signature(SOURCES[name]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ValueError(f"source {name} has no option {option!r}; it takes {', '.join(known)}")


def import_prompts(
    name: str,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    on_bad: Literal["error", "skip"] = "error",
    on_skip: Callable[[BadRow], None] | None = None,
) -> Imported:
    """Read the files of a source and write a .jsonl or .parquet of prompts, which appears when all of it is written.

    `root` is the folder that image paths are relative to, by default the one in which the files lie. A bad row raises
    a RecordError whose text is that of its BadRow, or goes to `on_skip`, which "skip" needs.
    """
    assert on_bad == "error" or on_skip is not None, 'on_bad="skip" needs on_skip'
    options = options or {}
    check_source(name, options)
    files = [Path(path) for path in paths]
    pictures = Pictures(_folder_of(files) if root is None else Path(root))
    convert: Callable[..., Iterator[Found]] = SOURCES[name]
    tally = _Tally(on_skip=on_skip if on_bad == "skip" else None)
    num_groups = write_groups(out, tally.groups(convert(Published(paths=files, pictures=pictures), **options)))
    return Imported(
        num_rows=tally.num_rows,
        num_groups=num_groups,
        num_bad=tally.num_bad,
        left_out=dict(tally.left_out),
        counts=dict(tally.counts),
        root=pictures.root if pictures.num_paths else None,
    )


@dataclass(slots=True)
class _Tally:
    """What was read so far."""

    on_skip: Callable[[BadRow], None] | None
    num_rows: int = 0
    num_bad: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, str] = field(default_factory=dict)

    def groups(self, rows: Iterator[Found]) -> Iterator[Group]:
        """The groups of the good rows; the others are counted and told. RecordError when there is none."""
        num_groups = 0
        for found in rows:
            self.num_rows += 1
            try:
                outcome = found.read()
                group = self._group(found, outcome)
            except RecordError as error:
                self._bad(found, error)
                continue
            self.counts.update(outcome.counts)
            if group is None:
                self.left_out[outcome.left_out] += 1
            else:
                num_groups += 1
                yield group
        problem = f"{self.num_rows} rows: {self.num_bad} bad, {self.left_out.total()} left out"
        expect(num_groups > 0, "import", f"gives no prompt ({problem})", "check the files and the options")

    def _group(self, found: Found, outcome: Outcome) -> Group | None:
        """A group that `read_groups` will take; None for a row that is left out."""
        if outcome.prompt is None:
            return None
        group = Group(prompt=outcome.prompt)
        check_text(group)
        place = f"{found.file}:{found.line}"
        first = self.places.setdefault(group.prompt.id, place)
        if first != place:
            raise RecordError("id", f"gives {group.prompt.id!r}, as {first} does", "import every row once")
        return group

    def _bad(self, found: Found, error: RecordError) -> None:
        bad = bad_row(found.file, found.line, error)
        if self.on_skip is None:
            raise RecordError(f"{bad.file}:{bad.line}: {bad.field}", bad.problem, bad.cure) from error
        self.num_bad += 1
        self.on_skip(bad)


def _folder_of(files: Sequence[Path]) -> Path | None:
    """The one folder in which the files lie; None when they lie in several."""
    folders = {path if path.is_dir() else path.parent for path in files}
    return folders.pop() if len(folders) == 1 else None
