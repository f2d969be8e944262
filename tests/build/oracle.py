"""A judge that knows the truth of drawn scenes by their pictures' bytes, and what it was asked; for a real server.

It reads the shipped templates: whatever stands between <first> and </first> is the first answer, and so on.
"""

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sightline.records import Completion, Group, Image
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure
from sightline.world.annotators import annotate, quality
from sightline.world.prompts import exact_group
from sightline.world.scenes import COLOURS, SHAPES
from sightline.world.tasks import make_question

PHRASE = re.compile(rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})")
Name = tuple[str, str, int | None]
"""What is asked: the text, the SHA-256 of the picture, the seed."""


class Oracle:
    """State: the truth by picture, and how often each question was answered."""

    def __init__(self, groups: Iterable[Group], *, place: float = 0.0) -> None:
        """`place` is what standing first is worth: a bias."""
        self._facts = {picture_hash(group.prompt.images[0]): dict(group.prompt.truth) for group in groups}
        self._place = place
        self._lock = threading.Lock()
        self.answered: Counter[Name] = Counter()

    def respond(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        """The truth about every request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: ChatRequest) -> Answer:
        with self._lock:
            self.answered[name_of(request)] += 1
        text, facts = text_of(request), self._facts.get(name_of(request)[1])
        said = self._said(text, facts)
        return Answer(
            choices=(Choice(text=said),), prompt_tokens=len(text.split()), completion_tokens=len(said.split())
        )

    def _said(self, text: str, facts: Mapping[str, Any] | None) -> str:
        if "List everything that the answer claims" in " ".join(text.split()):
            claims = [f"- There is a {phrase}." for phrase in PHRASE.findall(between(text, "answer"))]
            return "\n".join(claims) or "none"
        assert facts is not None, "the picture of this question is not known"
        if "<claim>" in text:
            named = PHRASE.findall(between(text, "claim"))
            present = [item["label"] for item in facts["objects"]]
            return "Yes." if named and all(phrase in present for phrase in named) else "No."
        if "<first>" in text:
            first, second = (quality(between(text, name), "describe", facts) for name in ("first", "second"))
            first += self._place
            better = "tie" if first == second else "first" if first > second else "second"
            return f"I looked at the picture.\n\nVerdict: {better}"
        value = max(quality(between(text, "answer"), "describe", facts), 0.0)
        if "Score: N" in text:
            return f"Most of it is there.\nScore: {round(10 * value)}"
        return f"Rating: {1 + round(4 * value)}\nBy what is to be seen."


def name_of(request: ChatRequest) -> Name:
    """The question as the server sees it."""
    pictures = [picture_hash(part) for part in request.messages[-1].content if isinstance(part, Image)]
    return text_of(request), "".join(pictures), request.seed


def name_of_row(asked: Mapping[str, Any]) -> Name:
    """The same of a kept reply."""
    parts = asked["messages"][-1]["content"]
    text = "".join(part["text"] for part in parts if "text" in part)
    return text, "".join(part["image"] for part in parts if "image" in part), asked["seed"]


def text_of(request: ChatRequest) -> str:
    """Its text, without pictures."""
    return "".join(part for part in request.messages[-1].content if isinstance(part, str))


def picture_hash(image: Image) -> str:
    """SHA-256 of the encoded file."""
    return hashlib.sha256(image.data or b"").hexdigest()


def between(text: str, mark: str) -> str:
    """What stands between <mark> and </mark>."""
    return text.partition(f"<{mark}>")[2].partition(f"</{mark}>")[0].strip()


def described(num: int, *, most: int = 3) -> list[Group]:
    """Groups about drawn scenes: the exact description, one with an invention, in every other group (for `most` 3) one
    that says nothing; and what the exact rules of the world prefer."""
    groups = []
    for index in range(num):
        question = make_question("describe", "train", index)
        group = exact_group(question)
        exact = group.completions[0].text
        absent = next(f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in exact)
        texts = (exact, f"{exact[:-1]} and a {absent}.", "There is something.")
        answers = tuple(Completion(text=text) for text in texts[: min(2 + index % 2, most)])
        groups.append(annotate(replace(group, completions=answers), "rules", seed=0))
    return groups
