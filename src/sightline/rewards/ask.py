"""The seam between judges and whoever answers them: questions with pictures go in, replies or problems come out.

Owns what a question and a reply are, the name under which a reply is kept, and the step from somebody who answers to
one who never answers the same question twice. Knows neither servers nor models, and not what is asked.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sightline.records import Image, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a judge is asked, complete: the same question has the same reply.

    Example: `Question(messages=(Message(role="user", content=(Image(data=png), "Is there a cat?")),), max_tokens=8)`.
    """

    messages: tuple[Message, ...]
    """The conversation; every image in it carries its encoded file."""
    max_tokens: int = 512
    """The reply is cut here."""
    temperature: float | None = 0.0
    """0 takes the most probable words; None leaves it to who answers."""
    seed: int | None = None
    """Of the draws, where who answers takes one."""
    repeat: int = 0
    """0 when it is asked for the first time, 1 when it is asked again to see whether the reply is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. Example: `Reply(text="Rating: 4", prompt_tokens=310, completion_tokens=4)`."""

    text: str | None = None
    """What was said; None when nothing was."""
    problem: str | None = None
    """Why there is no reply, after all that was tried; such a reply is never kept."""
    refused: bool = False
    """Whether who answers marked it as a refusal; one in plain words is told by the reader."""
    finished: bool = True
    """Whether it came to its own end before `max_tokens`."""
    prompt_tokens: int = 0
    """Tokens of the question."""
    completion_tokens: int = 0
    """Tokens of the reply."""
    cached: bool = False
    """Whether it was kept from before."""


_FREE = {"prompt_tokens": 0, "completion_tokens": 0}

Ask = Callable[[Sequence[Question]], list[Reply]]
"""Replies to questions, in order."""
Answer = Callable[[Sequence[Question]], Iterator[list[tuple[int, Reply]]]]
"""Replies as they arrive, some at a time, each with the number of its question; all of them in the end."""


class Keeper(Protocol):
    """Where replies are kept by key."""

    def get(self, key: str) -> Reply | None:
        """The kept reply."""
        ...

    def put(self, rows: Sequence[tuple[str, Question, Reply]]) -> None:
        """Keep replies; they are safe when it returns."""
        ...


def asking(answer: Answer, keeper: Keeper, *, who: str, told: Callable[[int], None] = lambda num: None) -> Ask:
    """Asks `answer` what is not kept yet, each distinct question once, and keeps every reply as soon as it arrives.

    Problems are not kept: they are tried again when somebody asks again. `who` answers is a part of the key. `told`
    hears how many replies have arrived.
    """

    def ask(questions: Sequence[Question]) -> list[Reply]:
        keys = [question_key(question, who) for question in questions]
        found = {key: reply for key in dict.fromkeys(keys) if (reply := keeper.get(key)) is not None}
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in found}
        told(len(found))
        new = list(missing.items())
        for some in answer([question for _, question in new]):
            rows = [(new[number][0], new[number][1], reply) for number, reply in some]
            keeper.put([row for row in rows if row[2].problem is None])
            found |= {key: reply for key, _, reply in rows}
            told(len(rows))
        assert len(found) == len(set(keys)), "whoever answers gives every question a reply or a problem"
        seen: set[str] = set()
        replies = []
        for key in keys:  # one that stands here twice was asked once: its tokens count once
            first = key not in seen
            replies.append(found[key] if first else replace(found[key], cached=True, **_FREE))
            seen.add(key)
        return replies

    return ask


def question_key(question: Question, who: str) -> str:
    """SHA-256 of everything that decides the reply, pictures by their own hash."""
    whole = {"who": who, **question_as_plain(question)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def question_as_plain(question: Question) -> Mapping[str, object]:
    """The question as plain JSON values, an image as the SHA-256 of its file."""
    return {
        "messages": [
            {"role": message.role, "content": [_part(part) for part in message.content]}
            for message in question.messages
        ],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "seed": question.seed,
        "repeat": question.repeat,
    }


def picture_of(image: Image) -> bytes:
    """The encoded file of an image in a question."""
    assert image.data is not None, "images of questions carry their files"
    return image.data


def _part(part: str | Image) -> Mapping[str, str]:
    if isinstance(part, str):
        return {"text": part}
    return {"image": hashlib.sha256(picture_of(part)).hexdigest()}
