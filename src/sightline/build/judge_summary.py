"""What a judge did and how far it can be trusted, counted over groups while they are judged."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sightline.evaluation.statistics import Interval, Ratio, UndefinedError, ratio
from sightline.records import Signal
from sightline.rewards.judges.agreement import agreed, preferences, sources_of
from sightline.rewards.judges.contract import Judgement
from sightline.rewards.judges.rounds import Counts

RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSummary:
    """The end of a judging, for people and for programs."""

    groups: int
    """Groups that were judged."""
    questions: int
    """Questions, repeated ones included."""
    asked: int
    """Of these, those that were asked now."""
    kept: int
    """Of these, those whose reply was kept from before."""
    read: int
    """Replies that were read."""
    refused: int
    """Replies that declined."""
    malformed: dict[str, int]
    """Replies without a verdict, by kind."""
    failed: int
    """Questions without a reply, after all retries; the same command asks them again."""
    requests: int | None
    """Requests that an endpoint was sent now."""
    retries: int | None
    """Of these, those that tried a question again."""
    prompt_tokens: int
    """Tokens of all questions, kept ones included."""
    completion_tokens: int
    """Tokens of all replies."""
    cost: float | None
    """Of all of these, where prices are given."""
    cost_now: float | None
    """Of those that were asked now."""
    signals: dict[str, int]
    """Signals that were written, by kind."""
    left_out: dict[str, int]
    """Signals that were not, by reason."""
    position_bias: Interval | None
    """Share of decided comparisons that the first place won, both orders asked; 0.5 is none."""
    self_agreement: Interval | None
    """Share of repeated questions with the same verdict."""
    agreement: dict[str, Interval]
    """By other source: share of the pairs on which both prefer one answer that they agree on."""
    compared: dict[str, int]
    """How many pairs that are."""
    last_problem: str = ""
    """The last reason why no reply came."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Grows group by group. State: the counts, and per group what intervals are made of."""

    source: str
    """Name of the judge."""
    counts: Counts = field(default_factory=Counts)
    """All groups together."""
    groups: int = 0
    """Judged so far."""
    signals: Counter[str] = field(default_factory=Counter)
    """Written, by kind."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Not written, by reason."""
    positions: list[tuple[int, int]] = field(default_factory=list)
    """Per group: won by the first place, decided."""
    repeated: list[tuple[int, int]] = field(default_factory=list)
    """Per group: the same verdict again, asked twice."""
    agreement: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By source, per group: agreed, compared."""

    def add(self, judgement: Judgement, counts: Counts, others: Sequence[Signal]) -> None:
        """Take one group; `others` are the signals of other sources."""
        self.groups += 1
        self.counts.add(counts)
        self.signals.update(signal.kind for signal in judgement.signals)
        self.left_out.update(judgement.left_out)
        decided = [value for value in judgement.positions if value != 0]
        _note(self.positions, sum(value > 0 for value in decided), len(decided))
        _note(self.repeated, counts.alike, counts.repeated)
        mine = preferences(judgement.signals, self.source)
        for other in sources_of(others):
            right, both = agreed(mine, preferences(others, other))
            _note(self.agreement.setdefault(other, []), right, both)

    def summary(
        self, *, requests: int | None, retries: int | None, cost: float | None, cost_now: float | None
    ) -> JudgeSummary:
        """Everything counted, with intervals over groups."""
        counts = self.counts
        malformed = {kind: num for kind, num in counts.problems.items() if kind not in ("failed", "refused")}
        agreement = {name: _share(rows) for name, rows in self.agreement.items()}
        return JudgeSummary(
            groups=self.groups,
            questions=counts.questions,
            asked=counts.questions - counts.kept,
            kept=counts.kept,
            read=counts.read,
            refused=counts.problems.get("refused", 0),
            malformed=dict(sorted(malformed.items())),
            failed=counts.problems.get("failed", 0),
            requests=requests,
            retries=retries,
            prompt_tokens=counts.prompt_tokens,
            completion_tokens=counts.completion_tokens,
            cost=cost,
            cost_now=cost_now,
            signals=dict(sorted(self.signals.items())),
            left_out=dict(sorted(self.left_out.items())),
            position_bias=_share(self.positions),
            self_agreement=_share(self.repeated),
            agreement={name: share for name, share in agreement.items() if share is not None},
            compared={name: sum(both for _, both in rows) for name, rows in self.agreement.items()},
            last_problem=counts.problem,
        )


def _note(rows: list[tuple[int, int]], top: int, bottom: int) -> None:
    if bottom:
        rows.append((top, bottom))


def _share(rows: Sequence[tuple[int, int]]) -> Interval | None:
    """Sum over sum with its interval over groups; None where there is nothing to say."""
    if not rows:
        return None
    top, bottom = np.array(rows, dtype=np.float64).T
    try:
        return ratio(Ratio(numerator=top, denominator=bottom), resamples=RESAMPLES, seed=0)
    except UndefinedError:
        return None
