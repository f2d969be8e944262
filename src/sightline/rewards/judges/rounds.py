"""Drives many judgements at once: a round of all of them is asked together, then the next one.

Owns the counting of what came back, and the questions that are asked a second time to see whether a judge agrees with
itself. Whoever answers gets all questions of a round in one call and may answer them in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sightline.rewards.ask import Ask, Question, Reply, question_key
from sightline.rewards.judges.contract import Asked, Judgement, Rounds
from sightline.rewards.judges.reading import Reading, read_reply


@dataclass(slots=True, kw_only=True)
class Counts:
    """What was asked about one group, or about many, and what came back; grows while judging.

    Example: `Counts(questions=3, kept=1, read=2, problems={"no verdict": 1})`.
    """

    questions: int = 0
    """Questions, repeated ones included."""
    kept: int = 0
    """Of these, those whose reply was there already."""
    read: int = 0
    """Of these, those whose reply was read."""
    problems: dict[str, int] = field(default_factory=dict)
    """The others by kind: "failed" (no reply came), "refused", and the kinds of malformed replies."""
    prompt_tokens: int = 0
    """Tokens of the questions, kept ones included."""
    completion_tokens: int = 0
    """Tokens of the replies."""
    repeated: int = 0
    """Questions that were asked twice and read twice."""
    alike: int = 0
    """Of these, those whose verdict was the same both times."""
    problem: str = ""
    """The last reason why no reply came."""
    example: str = ""
    """The last reply that was no verdict."""

    def add(self, other: "Counts") -> None:
        """Take the counts of other groups."""
        self.questions += other.questions
        self.kept += other.kept
        self.read += other.read
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.repeated += other.repeated
        self.alike += other.alike
        self.problem = other.problem or self.problem
        self.example = other.example or self.example
        for kind, num in other.problems.items():
            self.problems[kind] = self.problems.get(kind, 0) + num

    def note(self, reply: Reply, reading: Reading) -> None:
        """Count one reply."""
        self.questions += 1
        self.kept += reply.cached
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if reading.problem is None:
            self.read += 1
            return
        self.problems[reading.problem] = self.problems.get(reading.problem, 0) + 1
        self.problem = reply.problem or self.problem
        self.example = reply.text or self.example


def judge_all(several: Sequence[Rounds], ask: Ask, *, again: float = 0.0) -> tuple[list[Judgement], list[Counts]]:
    """The judgement of each group, and its counts; `again` is the share of questions that are asked twice."""
    judgements: dict[int, Judgement] = {}
    counts = [Counts() for _ in several]
    waiting: dict[int, Sequence[Asked]] = {}

    def go_on(number: int, readings: Sequence[Reading] | None) -> None:
        rounds = several[number]
        try:
            waiting[number] = next(rounds) if readings is None else rounds.send(readings)
        except StopIteration as end:
            judgements[number] = end.value
            waiting.pop(number, None)

    for number in range(len(several)):
        go_on(number, None)
    while waiting:
        asked = {number: [*questions, *_repeated(questions, again)] for number, questions in waiting.items()}
        replies = iter(ask([one.question for some in asked.values() for one in some]))
        for number, some in asked.items():
            readings = []
            for one in some:
                reply = next(replies)
                readings.append(read_reply(reply, one.read))
                counts[number].note(reply, readings[-1])
            num = len(waiting[number])
            _compare(counts[number], waiting[number], readings[:num], readings[num:], again)
            go_on(number, readings[:num])
    return [judgements[number] for number in range(len(several))], counts


def _repeated(asked: Sequence[Asked], share: float) -> list[Asked]:
    """The questions that are asked again, with another seed."""
    return [replace(one, question=_once_more(one.question)) for one in asked if _is_repeated(one, share)]


def _once_more(question: Question) -> Question:
    return replace(question, repeat=1, seed=None if question.seed is None else question.seed + 1)


def _is_repeated(asked: Asked, share: float) -> bool:
    """By the question itself, so that going on after a kill repeats the same ones."""
    drawn = share > 0 and asked.repeatable
    return drawn and int(question_key(asked.question, "again")[:8], 16) < share * 2**32


def _compare(
    counts: Counts, asked: Sequence[Asked], readings: Sequence[Reading], others: Sequence[Reading], share: float
) -> None:
    twice = [reading for one, reading in zip(asked, readings, strict=True) if _is_repeated(one, share)]
    for reading, other in zip(twice, others, strict=True):
        if reading.value is not None and other.value is not None:
            counts.repeated += 1
            counts.alike += reading.value == other.value
