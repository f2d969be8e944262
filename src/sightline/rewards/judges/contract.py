"""What a judge is: rounds of questions about one group, each answered by readings, and in the end what it says.

A protocol (pairwise, pointwise, claims, critique) is a record with one method, `rounds(subject)`. That generator yields
the questions of a round with the reader of each reply, is sent the readings in the same order, and returns a
Judgement. It asks nobody itself, so it can be driven by hand, and many groups can share a round.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from sightline.records import Image, Message, Pair, Prompt, Signal
from sightline.rewards.ask import Question
from sightline.rewards.contract import Score
from sightline.rewards.judges.reading import Read, Reading

OVERALL = "overall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How judges are asked to speak. Example: `Sampling(max_tokens=16)` for yes or no."""

    max_tokens: int = 512
    """Replies are cut here."""
    temperature: float | None = 0.0
    """Of the replies; None leaves it to who answers."""
    seed: int | None = 0
    """Of the replies; None sends none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """One thing that answers are judged by. Example: `Aspect(name="brevity", means="brevity, fewer words are
    better.")`."""

    name: str
    """In signals and logs."""
    means: str
    """What stands for {aspect} in a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A prompt with the answers that are judged; its images carry their encoded files."""

    prompt: Prompt
    """What was asked."""
    answers: tuple[str, ...]
    """What was answered."""

    def ask(self, text: str, sampling: Sampling, read: Read, *, pictures: bool = True) -> "Asked":
        """A question with the pictures of the prompt in reading order, then the text."""
        images = self.prompt.images if pictures else ()
        question = Question(
            messages=(Message(role="user", content=(*images, text)),),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
        )
        return Asked(question=question, read=read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and how its reply is read."""

    question: Question
    """What is asked."""
    read: Read
    """From the reply's text to a reading."""
    repeatable: bool = True
    """Whether it ends in a verdict, of which a second one can be the same or another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge says of the answers of one group.

    Example: `Judgement(signals=(Pair(chosen=1, rejected=0, source="judge"),), positions=(1.0, -1.0))`.
    """

    signals: tuple[Signal, ...] = ()
    """For the record."""
    scores: tuple[Score | None, ...] = ()
    """One per answer, for use as a reward; None where something that a score needs is missing. Empty: no scores."""
    left_out: tuple[str, ...] = ()
    """Why a signal that was asked for is not there, one reason for each: "orders disagree", "incomplete"."""
    positions: tuple[float, ...] = ()
    """Verdicts of comparisons read in both orders: 1 where the first place won, -1 the second, 0 neither."""


Rounds = Generator[Sequence[Asked], Sequence[Reading], Judgement]


class JudgeProtocol(Protocol):
    """Any of the four ways to judge."""

    def rounds(self, subject: Subject) -> Rounds:
        """The rounds of questions about one group."""
        ...


def question_of(prompt: Prompt) -> str:
    """The conversation as text: the question alone, or who said what; pictures by number when there are several."""
    single = len(prompt.images) == 1
    number = 0
    turns: list[tuple[str, str]] = []
    for message in prompt.messages:
        parts = []
        for part in message.content:
            number += isinstance(part, Image)
            parts.append(part if isinstance(part, str) else "" if single else f"[picture {number}]")
        turns.append((message.role, " ".join(part for part in parts if part).strip()))
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role}: {text}" for role, text in turns)


def pairs_of(values: Mapping[int, float], *, source: str, min_margin: float = 0.0) -> tuple[Pair, ...]:
    """A pair for every two answers whose values differ, by `min_margin` or more; the largest difference first."""
    pairs = []
    for one, other in combinations(sorted(values), 2):
        margin = abs(values[one] - values[other])
        if margin > 0 and margin >= min_margin:
            better, worse = (one, other) if values[one] > values[other] else (other, one)
            pairs.append(Pair(chosen=better, rejected=worse, margin=margin, source=source, aspect=OVERALL))
    return tuple(sorted(pairs, key=lambda pair: -(pair.margin or 0.0)))
