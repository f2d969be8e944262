"""What the doctor finds in a run's rows before anything is computed: bad ones, and lengths against limits."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.build.loading import Row, inputs_of
from sightline.build.rows import check_row
from sightline.config import Recipe
from sightline.data.check import Lengths
from sightline.data.files import BadRow, bad_row, read_groups
from sightline.models.load import Loaded
from sightline.models.outline import sizes_of
from sightline.progress import each
from sightline.records import RecordError
from sightline.reports.doctor_page import Line
from sightline.train.feeds import of_aspect

MOST_ROWS = 20_000
"""Rows of each file that are read."""
SECONDS = 20.0
"""Time for opening pictures and counting tokens."""
CUT_SHARE = 0.1
"""Share of answers without their end above which somebody should look."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """The rows that were looked at."""

    rows: list[Row] = field(default_factory=list)
    """Good ones, drawn from all, tasks by turns."""
    lengths: list[Lengths] = field(default_factory=list)
    """Of each."""
    bad: list[BadRow] = field(default_factory=list)
    """Those that a run would refuse or leave out."""
    num_rows: int = 0
    """Rows of the files, as far as they were read."""


def look_at_rows(recipe: Recipe, loaded: Loaded, *, seconds: float = SECONDS) -> Seen:
    """Rows of all files in a drawn order, measured until all are or the time is up."""
    seen = Seen()
    found: list[tuple[Path, int, Row]] = []
    for file in map(Path, recipe.data.files):
        inputs = inputs_of(recipe, loaded, file)
        rows = read_groups(file, on_bad="skip", on_skip=seen.bad.append)
        for line, group in each(rows, f"reading {file}, row"):
            found.append((file, line, (group, inputs)))
            if line >= MOST_ROWS:
                break
    seen.num_rows = len(found) + len(seen.bad)
    opened: set[str] = set()
    began = time.monotonic()
    for file, line, (read, inputs) in each(_by_turns(found, recipe.seed), "looking at rows", len(found)):
        if time.monotonic() - began > seconds:
            break
        try:
            group = of_aspect(read, recipe.data.aspect)
            lengths = check_row(recipe, inputs, group, opened=opened)
        except RecordError as error:
            seen.bad.append(bad_row(file, line, error))
        else:
            seen.rows.append((group, inputs))
            seen.lengths.append(lengths)
    return seen


def row_lines(recipe: Recipe, loaded: Loaded, seen: Seen) -> Iterator[Line]:
    """Lines about the rows."""
    yield _data(recipe, seen)
    if seen.rows:
        yield _lengths(recipe, loaded, seen)


def _data(recipe: Recipe, seen: Seen) -> Line:
    looked = len(seen.rows) + len(seen.bad)
    of = f"{looked:,} of {seen.num_rows:,} rows" if looked < seen.num_rows else f"{looked:,} rows"
    if not seen.bad:
        return Line(name="data", state="pass", said=f"{of} looked at: pictures open, signals are there")
    first = f"{len(seen.bad):,} of {of} cannot be used; the first is {seen.bad[0]}"
    if not seen.rows:
        return Line(name="data", state="fail", said=first, cure="mend the rows; sightline data check lists all")
    if recipe.data.on_bad == "skip":
        return Line(name="data", state="look", said=f"{first}; data.on_bad: skip leaves them out")
    cure = "mend the rows (sightline data check lists all), or leave them out with data.on_bad: skip"
    return Line(name="data", state="fail", said=first, cure=cure)


def _lengths(recipe: Recipe, loaded: Loaded, seen: Seen) -> Line:
    """The longest row against what the model was made for, and groups against the token budget."""
    prompts = [one.prompt_text + one.image for one in seen.lengths]
    answers = [max(one.answers, default=0) for one in seen.lengths]
    if recipe.rewards:
        answers = [recipe.rollout.max_tokens] * len(prompts)
    longest = max(range(len(prompts)), key=lambda n: prompts[n] + answers[n])
    context = sizes_of(loaded).context
    said = (
        f"prompts up to {max(prompts):,} tokens ({max(one.image for one in seen.lengths):,} of images), answers up to "
    )
    said += f"{max(answers):,}{' (rollout.max_tokens)' if recipe.rewards else ''}"
    if context is not None and prompts[longest] + answers[longest] > context:
        need = (
            f"prompt {seen.rows[longest][0].prompt.id!r} needs {prompts[longest] + answers[longest]:,} with its answer"
        )
        return Line(
            name="lengths",
            state="fail",
            said=f"{said}; {need}, and the model was made for {context:,}",
            cure="set data.max_prompt_tokens and data.max_answer_tokens (or rollout.max_tokens) below that, or shrink "
            "pictures with model.max_pixels",
        )
    within = said if context is None else f"{said}; the model reads {context:,}"
    unended = _unended(seen.rows)
    if unended > CUT_SHARE:
        problem = f"{within}; but {unended:.0%} of the answers with stored tokens lack their end of turn: they were cut"
        return Line(name="lengths", state="look", said=problem, cure="sample them anew with more tokens")
    packed = [p + sum(one.answers) for p, one in zip(prompts, seen.lengths, strict=True)]
    over = sum(size > recipe.train.token_budget for size in packed)
    if over:
        problem = (
            f"{within}; {over:,} groups have more tokens than train.token_budget (up to {max(packed):,}) and are "
            "cut between their answers, each part with the prompt again"
        )
        return Line(name="lengths", state="look", said=problem, cure="a larger budget is faster, if memory allows it")
    return Line(name="lengths", state="pass", said=within)


def _unended(rows: Sequence[Row]) -> float:
    """Share of answers with stored tokens that do not end."""
    stored = [
        (completion.token_ids, inputs.ends)
        for group, inputs in rows
        for completion in group.completions
        if completion.token_ids
    ]
    return sum(ids[-1] not in ends for ids, ends in stored) / len(stored) if stored else 0.0


def _by_turns(found: Sequence[tuple[Path, int, Row]], seed: int) -> list[tuple[Path, int, Row]]:
    """All rows in a drawn order, one of each task by turns, so that few rows hold all tasks."""
    mixed = list(found)
    random.Random(seed).shuffle(mixed)
    turn: dict[str | None, int] = {}
    keyed = []
    for place, one in enumerate(mixed):
        task = one[2][0].prompt.task
        turn[task] = turn.get(task, -1) + 1
        keyed.append((turn[task], place, one))
    return [one for _, _, one in sorted(keyed, key=lambda row: row[:2])]
