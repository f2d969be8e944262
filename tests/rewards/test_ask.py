"""Asking through what is kept: each question once, at once on disk, problems never kept."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from sightline.records import Image, Message
from sightline.rewards.ask import Question, Reply, asking, question_key


class Memory:
    """A keeper without a disk."""

    def __init__(self) -> None:
        self.rows: dict[str, Reply] = {}

    def get(self, key: str) -> Reply | None:
        return replace(self.rows[key], cached=True) if key in self.rows else None

    def put(self, rows: Sequence[tuple[str, Question, Reply]]) -> None:
        self.rows |= {key: reply for key, _, reply in rows}


def question(text: str, **options: object) -> Question:
    return replace(Question(messages=(Message(role="user", content=(text,)),)), **options)


def echo(asked: list[str]):
    """Somebody who answers with the question, last one first."""

    def answer(questions: Sequence[Question]) -> Iterator[list[tuple[int, Reply]]]:
        for number in reversed(range(len(questions))):
            text = str(questions[number].messages[0].content[0])
            asked.append(text)
            bad = text.startswith("fail")
            reply = Reply(problem="no") if bad else Reply(text=text, prompt_tokens=2, completion_tokens=1)
            yield [(number, reply)]

    return answer


def test_replies_come_back_in_the_order_of_the_questions_and_each_question_is_asked_once():
    asked: list[str] = []
    ask = asking(echo(asked), Memory(), who="echo")
    replies = ask([question("a"), question("b"), question("a")])
    assert [reply.text for reply in replies] == ["a", "b", "a"]
    assert sorted(asked) == ["a", "b"]
    assert [reply.cached for reply in replies] == [False, False, True]
    assert sum(reply.prompt_tokens for reply in replies) == 4  # what was asked once is counted once
    again = ask([question("b"), question("c")])
    assert [reply.cached for reply in again] == [True, False]
    assert sorted(asked) == ["a", "b", "c"]


def test_what_is_kept_is_kept_before_the_next_reply_arrives():
    memory = Memory()

    def answer(questions: Sequence[Question]) -> Iterator[list[tuple[int, Reply]]]:
        yield [(0, Reply(text="first"))]
        assert len(memory.rows) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asking(answer, memory, who="x")([question("a"), question("b")])
    assert [reply.text for reply in memory.rows.values()] == ["first"]


def test_problems_are_not_kept_and_asked_again():
    asked: list[str] = []
    ask = asking(echo(asked), Memory(), who="echo")
    assert [ask([question("fail")])[0].problem for _ in range(2)] == ["no", "no"]
    assert asked == ["fail", "fail"]


def test_how_many_replies_arrived_is_told():
    told: list[int] = []
    ask = asking(echo([]), Memory(), who="echo", told=told.append)
    ask([question("a"), question("b")])
    ask([question("a"), question("c")])
    assert sum(told) == 4


def test_a_key_depends_on_everything_that_decides_the_reply():
    picture = Message(role="user", content=(Image(data=b"1"), "a"))
    base = question("a")
    others = [
        question("b"),
        replace(base, messages=(picture,)),
        replace(base, messages=(Message(role="user", content=(Image(data=b"2"), "a")),)),
        replace(base, messages=(Message(role="system", content=("a",)),)),
        replace(base, max_tokens=3),
        replace(base, temperature=None),
        replace(base, temperature=0.5),
        replace(base, seed=1),
        replace(base, repeat=1),
    ]
    keys = {question_key(one, "x") for one in [base, *others]} | {question_key(base, "y")}
    assert len(keys) == len(others) + 2
    assert question_key(question("a"), "x") == question_key(base, "x")
