"""One answer at a time, one aspect at a time: a rating each, as VLFeedback has it (Li et al. 2023, 2312.10665).

VLFeedback asks about three aspects (helpfulness, visual faithfulness, ethics), each from 1 to 5 with a rationale, and
pairs answers by their mean rating. Left out: several answers in one question, which would let them be compared.
"""

from dataclasses import dataclass

from sightline.records import Reward, Signal
from sightline.rewards.contract import Score
from sightline.rewards.judges.contract import (
    OVERALL,
    Asked,
    Aspect,
    Judgement,
    Rounds,
    Sampling,
    Subject,
    pairs_of,
    question_of,
)
from sightline.rewards.judges.reading import Read
from sightline.rewards.judges.templates import Template

NEEDS = ("answer",)
TAKES = ("question", "aspect", "low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """How answers are rated; a critique is the same with another template and another reader.

    Example: `Pointwise(source="judge", template=template, aspects=(ethics,), sampling=Sampling(), read=rating(1, 5))`.
    """

    source: str
    """Name of the judge in the signals."""
    template: Template
    """What is asked about an {answer}."""
    aspects: tuple[Aspect, ...]
    """What answers are rated by, each in a question of its own."""
    read: Read
    """From a reply to its number."""
    sampling: Sampling
    """How the judge is asked to speak."""
    scale: tuple[int, int] = (1, 5)
    """Lowest and highest rating, for {low} and {high}."""
    pairs: bool = True
    """Whether answers whose mean ratings differ make pairs too."""
    min_margin: float = 0.0
    """Least difference of mean ratings that makes a pair."""

    def rounds(self, subject: Subject) -> Rounds:
        """One round: every answer by every aspect. An answer of which one rating is missing has no mean."""
        questions = [self._asked(subject, answer, aspect) for answer in subject.answers for aspect in self.aspects]
        readings = yield questions
        signals: list[Signal] = []
        means: dict[int, float] = {}
        scores: list[Score | None] = []
        names, size = [aspect.name for aspect in self.aspects], len(self.aspects)
        for number in range(len(subject.answers)):
            values = [reading.value for reading in readings[number * size : (number + 1) * size]]
            given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            signals += [
                Reward(completion=number, value=value, source=self.source, aspect=name) for name, value in given.items()
            ]
            scores.append(None)
            if len(given) == size:
                means[number] = sum(given.values()) / size
                scores[-1] = Score(value=means[number], parts=given if size > 1 else {})
            if len(given) == size and names != [OVERALL]:
                mean = Reward(completion=number, value=means[number], parts=given, source=self.source, aspect=OVERALL)
                signals.append(mean)
        if self.pairs:
            signals += pairs_of(means, source=self.source, min_margin=self.min_margin)
        left_out = ("incomplete",) * (len(subject.answers) - len(means))
        return Judgement(signals=tuple(signals), scores=tuple(scores), left_out=left_out)

    def _asked(self, subject: Subject, answer: str, aspect: Aspect) -> Asked:
        low, high = self.scale
        values = {
            "question": question_of(subject.prompt),
            "answer": answer,
            "aspect": aspect.means,
            "low": str(low),
            "high": str(high),
        }
        return subject.ask(self.template.fill(values), self.sampling, self.read)
