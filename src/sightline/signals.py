"""What is known about the answers of a group: pairs, ranks, labels, rewards and wrong spans.

Owns the five kinds of signal, their JSON form, and what makes one fit its answers. Knows nothing of losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.fields import (
    Reader,
    RecordError,
    count,
    expect,
    flag,
    mapping_of,
    number,
    optional,
    read_record,
    text,
    tuple_of,
    write_record,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Completion `chosen` was preferred to completion `rejected`.

    Example: `Pair(chosen=0, rejected=1, margin=0.5, source="person")`.
    """

    chosen: int
    """Index of the better completion."""
    rejected: int
    """Index of the worse completion."""
    margin: float | None = None
    """How much better, on the scale of its source."""
    tie: bool = False
    """The source saw no difference."""
    source: str | None = None
    """Person, judge or rule."""
    aspect: str | None = None
    """What was compared ("faithfulness")."""
    time: str | None = None
    """ISO 8601, when known."""
    kind: Literal["pair"] = "pair"
    """Tag on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A rank for every completion, 0 the best; equal ranks are ties.

    Example: `Rank(ranks=(1, 0, 1), source="judge")` says that the second of three answers is the best.
    """

    ranks: tuple[int, ...]
    """One per completion."""
    source: str | None = None
    """Person, judge or rule."""
    aspect: str | None = None
    """What was compared."""
    time: str | None = None
    """ISO 8601, when known."""
    kind: Literal["rank"] = "rank"
    """Tag on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A thumb up or down on one completion.

    Example: `Label(completion=0, good=False, source="person")`.
    """

    completion: int
    """Index of the completion."""
    good: bool
    """Up or down."""
    source: str | None = None
    """Person, judge or rule."""
    aspect: str | None = None
    """What was judged."""
    time: str | None = None
    """ISO 8601, when known."""
    kind: Literal["label"] = "label"
    """Tag on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """A number on one completion, with the parts that it was made of.

    Example: `Reward(completion=0, value=0.7, parts={"recall": 0.5, "format": 0.2}, source="boxes")`.
    """

    completion: int
    """Index of the completion."""
    value: float
    """The reward."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named parts ("format", "recall"), for the log."""
    source: str | None = None
    """Name of the reward."""
    aspect: str | None = None
    """What it measures."""
    time: str | None = None
    """ISO 8601, when known."""
    kind: Literal["reward"] = "reward"
    """Tag on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Characters `start` to `end` of one completion are wrong; `replacement` says what should stand there.

    Example: `Span(completion=1, start=12, end=28, replacement="")` strikes " and a blue star" out.
    """

    completion: int
    """Index of the completion."""
    start: int
    """First character."""
    end: int
    """One past the last character."""
    replacement: str | None = None
    """Corrected text, empty for a deletion, None when nobody said."""
    source: str | None = None
    """Person, judge or rule."""
    aspect: str | None = None
    """What is wrong."""
    time: str | None = None
    """ISO 8601, when known."""
    kind: Literal["span"] = "span"
    """Tag on disk."""


Signal = Pair | Rank | Label | Reward | Span

_ORIGIN: dict[str, Reader] = {"source": optional(text), "aspect": optional(text), "time": optional(text)}
_KINDS: dict[str, tuple[type[Signal], dict[str, Reader]]] = {
    "pair": (
        Pair,
        {"chosen": count, "rejected": count, "margin": optional(number), "tie": flag, **_ORIGIN},
    ),
    "rank": (Rank, {"ranks": tuple_of(count), **_ORIGIN}),
    "label": (Label, {"completion": count, "good": flag, **_ORIGIN}),
    "reward": (Reward, {"completion": count, "value": number, "parts": mapping_of(number), **_ORIGIN}),
    "span": (
        Span,
        {"completion": count, "start": count, "end": count, "replacement": optional(text), **_ORIGIN},
    ),
}


def signal_to_dict(signal: Signal) -> dict[str, Any]:
    """The signal as plain JSON values, its kind first."""
    return {"kind": signal.kind, **write_record(signal)}


def signal_from_dict(row: Any, where: str) -> Signal:
    """The signal of plain JSON values; `check_signal` then holds it to the answers."""
    expect(isinstance(row, dict), where, "is not an object", "give it a kind")
    kind = row.get("kind")
    good = isinstance(kind, str) and kind in _KINDS
    expect(
        good,
        f"{where}.kind",
        f"is {kind!r}" if "kind" in row else "is missing",
        f"use one of {', '.join(_KINDS)}",
    )
    assert isinstance(kind, str)
    record, readers = _KINDS[kind]
    return read_record(record, readers, {name: value for name, value in row.items() if name != "kind"}, where)


def check_signal(signal: Signal, answers: Sequence[str], where: str) -> None:
    """RecordError when the signal speaks of an answer, or of characters, that are not there."""
    num_answers = len(answers)
    match signal:
        case Rank(ranks=ranks):
            problem = f"has {len(ranks)} entries for {num_answers} completions"
            expect(len(ranks) == num_answers, f"{where}.ranks", problem, "give each completion one rank")
        case Pair(chosen=chosen, rejected=rejected):
            _check_index(chosen, num_answers, f"{where}.chosen")
            _check_index(rejected, num_answers, f"{where}.rejected")
            if chosen == rejected:
                raise RecordError(f"{where}.rejected", f"is {rejected}, as is chosen", "name two completions")
        case Span(completion=completion, start=start, end=end):
            _check_index(completion, num_answers, f"{where}.completion")
            length = len(answers[completion])
            problem = f"is {end}, for a span from {start} in an answer of {length} characters"
            expect(
                0 <= start <= end <= length,
                f"{where}.end",
                problem,
                "count characters from 0, end after start",
            )
        case Label(completion=completion) | Reward(completion=completion):
            _check_index(completion, num_answers, f"{where}.completion")


def _check_index(index: int, num_answers: int, where: str) -> None:
    problem = f"is {index} and there are {num_answers} completions"
    expect(0 <= index < num_answers, where, problem, "count the completions from 0")
