"""Many judgements in common rounds: order, counts, and questions that are asked twice."""

import re
from collections.abc import Sequence

import pytest

from sightline.rewards.ask import Question, Reply
from sightline.rewards.judges.claims import ByClaims
from sightline.rewards.judges.pointwise import Pointwise
from sightline.rewards.judges.reading import rating
from sightline.rewards.judges.rounds import Counts, judge_all
from sightline.rewards.judges.templates import Template
from tests.rewards.judges.subjects import OVERALL, SAMPLING, subject, text_of

RATE = Pointwise(
    source="judge",
    template=Template(name="rate", text="{answer}"),
    aspects=(OVERALL,),
    read=rating(1, 5),
    sampling=SAMPLING,
)
CHECK = ByClaims(
    source="judge",
    template=Template(name="check", text="{claim}?"),
    sampling=SAMPLING,
    split_sampling=SAMPLING,
    split=Template(name="split", text="split {answer}"),
)


def test_groups_share_rounds_and_come_back_in_order():
    calls: list[list[str]] = []

    def ask(questions: Sequence[Question]) -> list[Reply]:
        texts = [text_of(question) for question in questions]
        calls.append(texts)
        return [Reply(text="- cat\n- dog" if text.startswith("split") else "yes") for text in texts]

    several = [CHECK.rounds(subject("one")), CHECK.rounds(subject()), CHECK.rounds(subject("two", "three"))]
    judgements, counts = judge_all(several, ask)
    assert calls == [["split one", "split two", "split three"], ["cat?", "dog?"] * 3]
    assert [len(judgement.scores) for judgement in judgements] == [1, 0, 2]
    assert [count.questions for count in counts] == [3, 0, 6]


def test_every_reply_is_counted_by_what_became_of_it():
    said = {
        "good": Reply(text="Rating: 3", prompt_tokens=10, completion_tokens=2),
        "kept": Reply(text="Rating: 4", prompt_tokens=5, completion_tokens=1, cached=True),
        "odd": Reply(text="Rating: 9", prompt_tokens=1),
        "mute": Reply(text="Well."),
        "no": Reply(text="I can't help with that."),
        "down": Reply(problem="answers 503 (busy)"),
    }

    def ask(questions: Sequence[Question]) -> list[Reply]:
        return [said[text_of(question).removeprefix("| ")] for question in questions]

    _, [counts] = judge_all([RATE.rounds(subject(*said))], ask)
    assert (counts.questions, counts.kept, counts.read) == (6, 1, 2)
    assert counts.problems == {"off the scale": 1, "no verdict": 1, "refused": 1, "failed": 1}
    assert (counts.prompt_tokens, counts.completion_tokens) == (16, 3)
    assert counts.problem == "answers 503 (busy)"
    assert counts.example == "I can't help with that."
    total = Counts(questions=1, problems={"refused": 2})
    total.add(counts)
    assert (total.questions, total.problems["refused"], total.problems["failed"]) == (7, 3, 1)


def test_a_share_of_the_questions_is_asked_again_with_another_seed():
    asked: list[Question] = []

    def ask(questions: Sequence[Question]) -> list[Reply]:
        asked.extend(questions)
        fickle = [question.repeat == 1 and "fickle" in text_of(question) for question in questions]
        return [Reply(text=f"Rating: {2 if moody else 3}") for moody in fickle]

    answers = [*(f"steady {n}" for n in range(150)), *(f"fickle {n}" for n in range(50))]
    judgements, [counts] = judge_all([RATE.rounds(subject(*answers))], ask, again=0.5)
    again = [question for question in asked if question.repeat]
    assert len(again) == pytest.approx(100, abs=25)
    assert {question.seed for question in again} == {4}
    assert counts.questions == 200 + len(again)
    assert counts.repeated == len(again)
    assert counts.repeated - counts.alike == sum("fickle" in text_of(question) for question in again)
    assert {score.value for score in judgements[0].scores if score is not None} == {3.0}  # the first verdict counts
    asked.clear()
    judge_all([RATE.rounds(subject(*answers))], ask, again=0.5)
    assert [question for question in asked if question.repeat] == again  # the same ones every time


def test_lists_of_claims_are_not_asked_twice():
    asked: list[Question] = []

    def ask(questions: Sequence[Question]) -> list[Reply]:
        asked.extend(questions)
        return [Reply(text="- cat" if text_of(q).startswith("split") else "yes") for q in questions]

    judge_all([CHECK.rounds(subject("one", "two"))], ask, again=1.0)
    assert [bool(question.repeat) for question in asked] == [False, False, False, False, True, True]
    assert re.match("split", text_of(asked[0]))


def test_a_repeated_question_without_a_verdict_says_nothing_of_agreement():
    def ask(questions: Sequence[Question]) -> list[Reply]:
        return [Reply(text="Well." if question.repeat else "Rating: 3") for question in questions]

    _, [counts] = judge_all([RATE.rounds(subject("a"))], ask, again=1.0)
    assert (counts.repeated, counts.problems) == (0, {"no verdict": 1})
