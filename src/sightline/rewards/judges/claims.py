"""Claim by claim, as RLAIF-V has it (Yu et al. 2024, 2405.17220): split an answer, ask yes or no about each part.

A single claim is easier to check than a whole answer, so a modest model can judge, the policy itself included.
RLAIF-V's score is minus the number of rejected claims; the share of claims that hold does not grow when less is said.
An answer that claims nothing has no score: saying nothing must not win. Left out: RLAIF-V turns claims into questions
by a model, here a template does it; and its balancing of answer lengths.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from sightline.records import Reward, Signal
from sightline.rewards.contract import Score
from sightline.rewards.judges.contract import (
    OVERALL,
    Asked,
    Judgement,
    Rounds,
    Sampling,
    Subject,
    pairs_of,
    question_of,
)
from sightline.rewards.judges.reading import MAX_CLAIMS, Reading, claim_list, yes_or_no
from sightline.rewards.judges.templates import Template
from sightline.rewards.text import sentence_ends

NEEDS = ("claim",)
TAKES = ("question", "answer")
SPLIT_NEEDS = ("answer",)
SPLIT_TAKES = ("question",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByClaims:
    """How answers are split and their claims checked.

    Example: with `split=re.compile("(?:red|blue) (?:circle|star)")`, "A red circle." claims "red circle".
    """

    source: str
    """Name of the judge in the signals."""
    template: Template
    """What is asked about a {claim}, with the pictures; the reply is yes or no."""
    sampling: Sampling
    """How the judge is asked to speak of a claim."""
    split_sampling: Sampling
    """How it is asked to list claims."""
    split: Template | re.Pattern[str] | None = None
    """Who splits an answer: the judge, asked with this template and without pictures; a pattern, whose matches are the
    claims; or None, its sentences."""
    score: Literal["share", "rejected"] = "share"
    """The share of claims that hold, or minus the number of those that do not (RLAIF-V)."""
    pairs: bool = True
    """Whether answers whose scores differ make pairs too."""
    min_margin: float = 0.0
    """Least difference of scores that makes a pair."""

    def rounds(self, subject: Subject) -> Rounds:
        """A round that splits, when the judge does it; then one question for each distinct claim of the group."""
        found = list((yield self._splitting(subject)))
        if not isinstance(self.split, Template):
            found = [claims_of(answer, self.split) for answer in subject.answers]
        questions = [(number, claim) for number, reading in enumerate(found) for claim in reading.claims]
        readings = yield [self._asked(subject, number, claim) for number, claim in questions]
        verdicts: list[dict[str, float | None]] = [{} for _ in found]
        for (number, claim), reading in zip(questions, readings, strict=True):
            verdicts[number][claim] = reading.value
        return self._judgement(found, verdicts)

    def _judgement(self, found: Sequence[Reading], verdicts: Sequence[dict[str, float | None]]) -> Judgement:
        signals: list[Signal] = []
        scores: list[Score | None] = []
        left_out: list[str] = []
        values: dict[int, float] = {}
        for number, (split, given) in enumerate(zip(found, verdicts, strict=True)):
            held = {claim: value for claim, value in given.items() if value is not None}
            scores.append(None)
            if split.problem is not None or len(held) < len(given):
                left_out.append("incomplete")
            elif not held:
                left_out.append("no claims")
            else:
                rejected = sum(value == 0 for value in held.values())
                values[number] = 1 - rejected / len(held) if self.score == "share" else float(-rejected)
                parts = {"claims": float(len(held)), "rejected": float(rejected)}
                scores[-1] = Score(value=values[number], parts=parts)
                reward = Reward(completion=number, value=values[number], parts=held, source=self.source, aspect=OVERALL)
                signals.append(reward)
        if self.pairs:
            signals += pairs_of(values, source=self.source, min_margin=self.min_margin)
        return Judgement(signals=tuple(signals), scores=tuple(scores), left_out=tuple(left_out))

    def _splitting(self, subject: Subject) -> list[Asked]:
        if not isinstance(self.split, Template):
            return []
        values = {"question": question_of(subject.prompt)}
        texts = [self.split.fill(values | {"answer": answer}) for answer in subject.answers]
        asked = [subject.ask(text, self.split_sampling, claim_list, pictures=False) for text in texts]
        return [replace(one, repeatable=False) for one in asked]

    def _asked(self, subject: Subject, number: int, claim: str) -> Asked:
        values = {"question": question_of(subject.prompt), "answer": subject.answers[number], "claim": claim}
        return subject.ask(self.template.fill(values), self.sampling, yes_or_no)


def claims_of(answer: str, pattern: re.Pattern[str] | None) -> Reading:
    """The distinct claims of an answer by rule: matches of a pattern (its one group, if it has one), or sentences."""
    if pattern is None:
        ends = (0, *sentence_ends(answer))
        parts = [answer[start:end] for start, end in pairwise(ends)]
    else:
        parts = [match[1 if pattern.groups else 0] or "" for match in pattern.finditer(answer)]
    claims = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    return Reading(claims=claims) if len(claims) <= MAX_CLAIMS else Reading(problem="too many claims")
