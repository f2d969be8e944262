"""Feeds turn groups into batches: which answers, which pairs, in the stream's order, with the reference filled in.

Preference learning and reinforcement learning differ in the feed and the objective alone; this file holds the feed
of what is already on disk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.data.stream import Stream
from sightline.objectives.ranking import OVERALL
from sightline.records import Completion, Group, Label, Pair, Prompt, Rank, RecordError

PromptReader = Callable[[Prompt], PromptTokens]
Row = TypeVar("Row")
AnswerReader = Callable[[Completion], tuple[int, ...]]


def of_aspect(group: Group, aspect: str | None) -> Group:
    """The group with the pairs and ranks that compare this aspect, and all other signals; None leaves it as it is."""
    if aspect is None:
        return group
    named = aspects_of(group)
    if aspect not in named:
        problem = f"compare {', '.join(named)}" if named else "compare no two answers"
        raise RecordError(
            "signals", f"{problem}, and data.aspect is {aspect!r}", "correct data.aspect, or remove the row"
        )
    kept = [s for s in group.signals if not isinstance(s, Pair | Rank) or _aspect_of(s) == aspect]
    return replace(group, signals=tuple(kept))


def aspects_of(group: Group) -> list[str]:
    """What the group's pairs and ranks compare; what names no aspect is overall."""
    return sorted({_aspect_of(signal) for signal in group.signals if isinstance(signal, Pair | Rank)})


def _aspect_of(signal: Pair | Rank) -> str:
    return OVERALL if signal.aspect is None else signal.aspect


def pairs_of(group: Group) -> list[tuple[int, int, float]]:
    """(chosen, rejected, margin) of every pair that the group's signals name within one aspect; ties name none.

    That aspect is the overall one where anything is said overall, else the only one: an answer may be the more helpful
    and the less safe, so pairs of several aspects would contradict each other.
    """
    found: dict[tuple[int, int], float] = {}
    aspects = aspects_of(group)
    if len(aspects) > 1 and OVERALL not in aspects:
        cure = "choose one with data.aspect, or let the signals say what holds overall"
        raise RecordError("signals", f"compare {', '.join(aspects)}, which may contradict each other", cure)
    for signal in group.signals:
        if isinstance(signal, Pair | Rank) and OVERALL in aspects and _aspect_of(signal) != OVERALL:
            continue
        if isinstance(signal, Pair) and not signal.tie:
            found[signal.chosen, signal.rejected] = signal.margin if signal.margin is not None else 1.0
        if isinstance(signal, Rank):
            for better, high in enumerate(signal.ranks):
                found |= {(better, worse): float(low - high) for worse, low in enumerate(signal.ranks) if high < low}
    return [(chosen, rejected, margin) for (chosen, rejected), margin in found.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One answer against another. Example: `Comparison(better=0, worse=1, margin=0.5, tie=False, aspect="overall")`."""

    better: int
    """Number of the answer that won."""
    worse: int
    """Number of the other; of a tie, either."""
    margin: float
    """How much better, 1 where nobody said."""
    tie: bool
    """Whether there was no difference."""
    aspect: str
    """What was compared."""


def comparisons_of(group: Group) -> list[Comparison]:
    """Every comparison that the group's pairs and ranks hold, ties included."""
    found = []
    for signal in group.signals:
        aspect = OVERALL if not isinstance(signal, Pair | Rank) or signal.aspect is None else signal.aspect
        if isinstance(signal, Pair):
            margin = 1.0 if signal.margin is None else signal.margin
            found.append(
                Comparison(better=signal.chosen, worse=signal.rejected, margin=margin, tie=signal.tie, aspect=aspect)
            )
        if isinstance(signal, Rank):
            for i, j in combinations(range(len(signal.ranks)), 2):
                better, worse = (i, j) if signal.ranks[i] <= signal.ranks[j] else (j, i)
                margin = float(signal.ranks[worse] - signal.ranks[better])
                found.append(Comparison(better=better, worse=worse, margin=margin, tie=margin == 0, aspect=aspect))
    return found


def imitated(group: Group) -> list[int]:
    """Answers to imitate: preferred ones that nothing was preferred to, those called good, or all without signals."""
    pairs = pairs_of(group)
    beaten = {rejected for _, rejected, _ in pairs}
    chosen = {best for best, _, _ in pairs if best not in beaten}
    chosen |= {s.completion for s in group.signals if isinstance(s, Label) and s.good}
    return sorted(chosen) if group.signals else list(range(len(group.completions)))


def check_signals(group: Group, *, objective: str, attributes: Sequence[str] = ()) -> None:
    """Refuse a group that gives this objective nothing to learn from, or compares what it does not rate."""
    if objective == "dpo" and not pairs_of(group):
        raise RecordError(
            "signals", "name no pair of a better and a worse answer", "add a pair or ranks, or remove the row"
        )
    if objective == "ranking":
        _check_comparisons(group, attributes)
    if objective == "sft" and not imitated(group):
        raise RecordError("signals", "name no answer to imitate", "add a pair, a good label, or remove all signals")


def _check_comparisons(group: Group, attributes: Sequence[str]) -> None:
    found = comparisons_of(group)
    if not found:
        raise RecordError("signals", "compare no two answers", "add a pair or ranks, or remove the row")
    known = (OVERALL, *attributes)
    unknown = sorted({one.aspect for one in found} - set(known))
    if unknown:
        problem = f"compare {unknown[0]!r}, and the reward model rates {', '.join(known)}"
        raise RecordError("signals", problem, f"add {unknown[0]} to objective.attributes, or remove the signal")


def comparison_batch(
    groups: Sequence[Group], *, attributes: Sequence[str], prompt: PromptReader, answer: AnswerReader
) -> Batch:
    """All answers that are compared, and their comparisons with margin, tie and aspect (objectives/ranking)."""
    names = [OVERALL, *attributes]
    answers: list[list[tuple[int, ...]]] = []
    pairs: list[tuple[int, int]] = []
    columns: dict[str, list[float]] = {"margin": [], "tie": [], "aspect": []}
    num_before = 0
    for group in groups:
        found = comparisons_of(group)
        used = sorted({i for one in found for i in (one.better, one.worse)})
        row = {completion: num_before + place for place, completion in enumerate(used)}
        answers.append([answer(group.completions[i]) for i in used])
        pairs += [(row[one.better], row[one.worse]) for one in found]
        columns["margin"] += [one.margin for one in found]
        columns["tie"] += [float(one.tie) for one in found]
        columns["aspect"] += [float(names.index(one.aspect)) for one in found]
        num_before += len(used)
    return make_batch([prompt(g.prompt) for g in groups], answers, pairs=pairs, pair_columns=columns)


def group_batch(groups: Sequence[Group], *, objective: str, prompt: PromptReader, answer: AnswerReader) -> Batch:
    """The batch of some groups: for "sft" the answers to imitate, for "dpo" the answers in pairs and the pairs."""
    answers: list[list[tuple[int, ...]]] = []
    pairs: list[tuple[int, int]] = []
    margins: list[float] = []
    num_before = 0
    for group in groups:
        named = pairs_of(group) if objective == "dpo" else []
        used = sorted({i for pair in named for i in pair[:2]}) if named else imitated(group)
        row = {completion: num_before + place for place, completion in enumerate(used)}
        answers.append([answer(group.completions[i]) for i in used])
        pairs += [(row[chosen], row[rejected]) for chosen, rejected, _ in named]
        margins += [margin for _, _, margin in named]
        num_before += len(used)
    return make_batch([prompt(g.prompt) for g in groups], answers, pairs=pairs, pair_columns={"margin": margins})


class GroupFeed(Generic[Row]):
    """Batches of rows (groups, with what reads them) in the stream's order. State: the stream's."""

    def __init__(
        self,
        rows: Sequence[Row],
        stream: Stream,
        make: Callable[[Sequence[Row]], Batch],
        reference: Callable[[Batch], Tensor] | None,
    ) -> None:
        """`make` turns groups into a batch; `reference` gives the log-probs to compare with, if any."""
        self._rows = rows
        self._stream = stream
        self._make = make
        self._reference = reference

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the batches."""
        return self

    def __next__(self) -> Batch:
        """The next batch, with the reference's log-probabilities when there is a reference."""
        batch = self._make([self._rows[i] for i in next(self._stream)])
        return with_reference(batch, self._reference)

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain JSON."""
        return dict(self._stream.state())

    def tensors(self) -> dict[str, Tensor]:
        """None: everything is on disk already."""
        return {}

    def metrics(self) -> dict[str, float]:
        """None: what is on disk does not change."""
        return {}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self._stream.restore(state)


def with_reference(batch: Batch, reference: Callable[[Batch], Tensor] | None) -> Batch:
    """The batch with the reference's log-probabilities, if there is a reference."""
    if reference is None:
        return batch
    with torch.no_grad():
        return batch.with_columns(ref_logprobs=reference(batch))
