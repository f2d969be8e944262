"""Looks at every row of some files before a run does, and counts what is there.

Owns what makes a row fit for training beyond its words (pictures that open, lengths within limits), and the
report. Knows no model: token counts and rendered prompts come from functions handed in. Prints nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy

from sightline.data.files import BadRow, bad_row, read_groups
from sightline.data.images import ImageStore
from sightline.data.repeats import Finder, Repeats
from sightline.progress import each
from sightline.records import Group, Image, Prompt, RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of one group for one model.

    Example: `Lengths(prompt_text=31, image=256, answers=(12, 45))`.
    """

    prompt_text: int
    """Tokens of the prompt that are not of an image, the chat template included."""
    image: int
    """Tokens that its images take."""
    answers: tuple[int, ...]
    """Tokens of each answer, end of turn included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long things are: percentiles that are themselves lengths that occur."""

    num: int
    """How many were measured."""
    smallest: int
    """The shortest."""
    median: int
    """Half are at most this long."""
    p90: int
    """Nine in ten are at most this long."""
    p99: int
    """All but one in a hundred are at most this long."""
    largest: int
    """The longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCount:
    """What one file holds."""

    file: str
    """The file as it was named."""
    num_rows: int
    """Its rows, good and bad."""
    num_groups: int
    """Rows that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A prompt as the model sees it."""

    file: str
    """The file as it was named."""
    line: int
    """Its line or row."""
    id: str
    """The id of the prompt."""
    text: str
    """The prompt with the chat template and its image tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `check` found; all counts but `num_rows` are of good rows."""

    files: tuple[FileCount, ...]
    """Rows by file."""
    num_completions: int
    """Answers."""
    num_images: int
    """Images of the prompts, alternates included."""
    num_distinct_images: int
    """Those of different content."""
    signals: Mapping[str, int]
    """Signals by kind ("pair": 120)."""
    tasks: Mapping[str, int]
    """Groups by task; those without one are not counted."""
    lengths: Mapping[str, Spread]
    """Tokens by "prompt_text", "image" (of a whole prompt) and "answer"; empty without `measure`."""
    bad_rows: tuple[BadRow, ...]
    """Every row that cannot be used, in order."""
    rendered: tuple[Rendered, ...]
    """The first prompts as the model sees them; empty without `render`."""
    repeats: Repeats
    """Rows that repeat each other."""

    @property
    def num_rows(self) -> int:
        """Rows of all files, good and bad."""
        return sum(file.num_rows for file in self.files)

    @property
    def num_groups(self) -> int:
        """Rows that can be used."""
        return sum(file.num_groups for file in self.files)


def check(
    files: Iterable[str | Path],
    *,
    store_for: Callable[[Path], ImageStore],
    measure: Callable[[Group], Lengths] | None = None,
    render: Callable[[Prompt], str] | None = None,
    show: int = 3,
    max_prompt_tokens: int | None = None,
    max_answer_tokens: int | None = None,
) -> CheckReport:
    """Read every row, open every picture once, measure every length; bad rows are listed, never raised.

    `store_for` gives the store of a file's pictures; `render` is called for the first `show` good rows.
    """
    tally = _Tally()
    for file in map(Path, files):
        store = store_for(file)
        num_bad, num_good = len(tally.bad_rows), 0
        rows = read_groups(file, on_bad="skip", on_skip=tally.bad_rows.append)
        for line, group in each(rows, f"reading {file}, row"):
            try:
                keys = check_images(group.prompt, store, opened=tally.keys)
                lengths = None if measure is None else measure(group)
                if lengths is not None:
                    check_lengths(lengths, max_prompt_tokens=max_prompt_tokens, max_answer_tokens=max_answer_tokens)
                if render is not None and len(tally.rendered) < show:
                    text, name = render(group.prompt), group.prompt.id
                    tally.rendered.append(Rendered(file=str(file), line=line, id=name, text=text))
            except RecordError as error:
                tally.bad_rows.append(bad_row(file, line, error))
            else:
                tally.add(group, keys, lengths)
                num_good += 1
        num_rows = num_good + len(tally.bad_rows) - num_bad
        tally.files.append(FileCount(file=str(file), num_rows=num_rows, num_groups=num_good))
    return tally.report()


def check_images(prompt: Prompt, store: ImageStore, *, opened: set[str] | None = None) -> tuple[str, ...]:
    """The key of every image of the prompt, each opened; RecordError with the field whose image does not.

    Images whose key is in `opened` are not opened again, and the others' keys join it.
    """
    opened = set() if opened is None else opened
    keys = []
    for where, image in images_of(prompt):
        try:
            key = store.key(image)
            if key not in opened:
                store.open(image)
        except RecordError as error:
            raise RecordError(where, f"{error.where} {error.problem}", error.cure) from error
        opened.add(key)
        keys.append(key)
    return tuple(keys)


def check_lengths(lengths: Lengths, *, max_prompt_tokens: int | None, max_answer_tokens: int | None) -> None:
    """RecordError when a prompt or an answer is longer than it may be: nothing is ever cut."""
    prompt = lengths.prompt_text + lengths.image
    if max_prompt_tokens is not None and prompt > max_prompt_tokens:
        parts = f"{lengths.prompt_text} of text, {lengths.image} of images"
        problem = f"has {prompt} tokens ({parts}), more than {max_prompt_tokens}"
        raise RecordError("prompt", problem, "shorten it or raise data.max_prompt_tokens")
    for i, answer in enumerate(lengths.answers):
        if max_answer_tokens is not None and answer > max_answer_tokens:
            problem = f"has {answer} tokens, more than {max_answer_tokens}"
            raise RecordError(f"completions[{i}].text", problem, "shorten it or raise data.max_answer_tokens")


def images_of(prompt: Prompt) -> Iterator[tuple[str, Image]]:
    """Every image of the prompt with the path of its field, those of the messages first."""
    for i, message in enumerate(prompt.messages):
        for j, part in enumerate(message.content):
            if isinstance(part, Image):
                yield f"prompt.messages[{i}].content[{j}].image", part
    for name, image in prompt.alternates.items():
        yield f"prompt.alternates.{name}", image


@dataclass(slots=True)
class _Tally:
    """The report while it grows."""

    files: list[FileCount] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    rendered: list[Rendered] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    finder: Finder = field(default_factory=Finder)

    def add(self, group: Group, keys: tuple[str, ...], lengths: Lengths | None) -> None:
        """Count a good row."""
        self.counts.update(completions=len(group.completions), images=len(keys))
        self.used.update(keys)
        self.finder.add(group, keys)
        self.signals.update(signal.kind for signal in group.signals)
        if group.prompt.task is not None:
            self.tasks[group.prompt.task] += 1
        if lengths is not None:
            self.lengths.setdefault("prompt_text", []).append(lengths.prompt_text)
            self.lengths.setdefault("image", []).append(lengths.image)
            self.lengths.setdefault("answer", []).extend(lengths.answers)

    def report(self) -> CheckReport:
        """The finished report."""
        return CheckReport(
            files=tuple(self.files),
            num_completions=self.counts["completions"],
            num_images=self.counts["images"],
            num_distinct_images=len(self.used),
            signals=dict(self.signals),
            tasks=dict(self.tasks),
            lengths={name: _spread(values) for name, values in self.lengths.items() if values},
            bad_rows=tuple(self.bad_rows),
            rendered=tuple(self.rendered),
            repeats=self.finder.found(),
        )


def _spread(values: list[int]) -> Spread:
    points = numpy.percentile(values, (0, 50, 90, 99, 100), method="inverted_cdf")
    smallest, median, p90, p99, largest = (int(point) for point in points)
    return Spread(num=len(values), smallest=smallest, median=median, p90=p90, p99=p99, largest=largest)
