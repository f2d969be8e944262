"""Two answers side by side, in both orders, since judges favour a place.

Of every two answers a judge is asked which is better, once with each of them first. Verdicts that agree make a pair;
what becomes of the others is an option. Left out: more than two answers in one question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import Literal

from sightline.records import Pair
from sightline.rewards.judges.contract import Asked, Aspect, Judgement, Rounds, Sampling, Subject, question_of
from sightline.rewards.judges.reading import Reading, verdict
from sightline.rewards.judges.templates import Template

NEEDS = ("first", "second")
TAKES = ("question", "aspect")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairwise:
    """How answers are compared.

    Example: `Pairwise(source="judge", template=template, aspects=(overall,), sampling=Sampling(), orders="one")`.
    """

    source: str
    """Name of the judge in the signals."""
    template: Template
    """What is asked; {first} and {second} are the answers."""
    aspects: tuple[Aspect, ...]
    """What the answers are compared by, each in a question of its own."""
    sampling: Sampling
    """How the judge is asked to speak."""
    orders: Literal["both", "one"] = "both"
    """Ask in both orders, or once, in an order that is drawn."""
    on_disagreement: Literal["drop", "tie", "average"] = "drop"
    """What verdicts that differ make: no pair, a tie, or a pair by their mean (a win and a tie: half a win)."""
    against: int | None = None
    """Number of the answer that each other one is compared with; None: every two."""

    def rounds(self, subject: Subject) -> Rounds:
        """One round: every comparison by every aspect, in its orders. Answers with the same text are not compared."""
        compared = [(aspect, first, second) for aspect in self.aspects for first, second in self._couples(subject)]
        orders = [(aspect, order) for aspect, a, b in compared for order in self._orders(subject, a, b)]
        readings = yield [self._asked(subject, aspect, *order) for aspect, order in orders]
        signals: list[Pair] = []
        left_out: list[str] = []
        positions: list[float] = []
        size = 2 if self.orders == "both" else 1
        for k in range(0, len(orders), size):
            aspect, (first, second) = orders[k]
            values = _values(readings[k : k + size])
            if values is None:
                left_out.append("incomplete")
                continue
            if size == 2:
                positions += values
            pair = self._pair(aspect, first, second, [values[0], *(-value for value in values[1:])])
            signals += [] if pair is None else [pair]
            left_out += ["orders disagree"] if pair is None else []
        return Judgement(signals=tuple(signals), left_out=tuple(left_out), positions=tuple(positions))

    def _couples(self, subject: Subject) -> list[tuple[int, int]]:
        texts = [text.strip() for text in subject.answers]
        every = combinations(range(len(texts)), 2)
        return [(a, b) for a, b in every if texts[a] != texts[b] and (self.against is None or self.against in (a, b))]

    def _orders(self, subject: Subject, a: int, b: int) -> list[tuple[int, int]]:
        if self.orders == "both":
            return [(a, b), (b, a)]
        drawn = sha256(f"{subject.prompt.id}/{a}/{b}".encode()).digest()[0] % 2
        return [(b, a) if drawn else (a, b)]

    def _asked(self, subject: Subject, aspect: Aspect, first: int, second: int) -> Asked:
        values = {
            "question": question_of(subject.prompt),
            "first": subject.answers[first],
            "second": subject.answers[second],
            "aspect": aspect.means,
        }
        return subject.ask(self.template.fill(values), self.sampling, verdict)

    def _pair(self, aspect: Aspect, first: int, second: int, values: Sequence[float]) -> Pair | None:
        """The pair of verdicts that all say how much better `first` is; None when it is to be dropped."""
        agree = len(set(values)) == 1
        if not agree and self.on_disagreement == "drop":
            return None
        mean = sum(values) / len(values) if agree or self.on_disagreement == "average" else 0.0
        if mean == 0:
            return Pair(chosen=first, rejected=second, tie=True, source=self.source, aspect=aspect.name)
        better, worse = (first, second) if mean > 0 else (second, first)
        return Pair(chosen=better, rejected=worse, margin=abs(mean), source=self.source, aspect=aspect.name)


def _values(readings: Sequence[Reading]) -> list[float] | None:
    """The verdicts, if all of them could be read."""
    values = [reading.value for reading in readings if reading.value is not None]
    return values if len(values) == len(readings) else None
