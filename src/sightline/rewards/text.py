"""Scoring of short texts against their truth: objects named, yes or no, numbers, refusals.

Every function reads an answer once and says which characters it counted, so that reports can mark them.
Knows nothing of prompts, models or advantages.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

SMALL_WORDS = frozenset(
    re.findall(
        r"[a-z]+",
        """
        a about above an and are as at be beside between but by can could for from has have he her here his i in is it
        its next no not of on one or our see she some that the their there these they this those to under was we were
        what which who will with you
        """,
    )
)
"""English words that end a phrase: they say how things are joined, not what they are."""
_WORDS_AND_MARKS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
REFUSAL = re.compile(r"\b(?:cannot|can['’]t|can not|will not|won['’]t|unable to|not able to|refuse)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A (colour, shape) phrase in a text. Example: "red circle" at characters 2 to 12."""

    label: str
    """The phrase, words joined by one space, in lower case."""
    start: int
    """First character."""
    end: int
    """One past the last character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Which mentions are there and which are not, and what was left out."""

    found: tuple[Mention, ...]
    """Mentions of objects that are present, one per object."""
    absent: tuple[Mention, ...]
    """Mentions without an object: hallucinations, repeated mentions included."""
    missed: tuple[str, ...]
    """Objects that no mention names."""


def mentions(text: str, *, colours: Collection[str], shapes: Collection[str]) -> tuple[Mention, ...]:
    """All (colour, shape) phrases in reading order; up to two words (a size, a texture) may stand between."""
    pattern = _phrase_pattern(tuple(colours), tuple(shapes))
    return tuple(
        Mention(label=f"{m['colour'].lower()} {m['shape'].lower()}", start=m.start(), end=m.end())
        for m in pattern.finditer(text)
    )


def match_mentions(named: Collection[Mention], present: Collection[str]) -> Naming:
    """Match mentions to present objects one to one: the second mention of one object is a hallucination."""
    left = list(present)
    found, absent = [], []
    for mention in named:
        if mention.label in left:
            left.remove(mention.label)
            found.append(mention)
        else:
            absent.append(mention)
    return Naming(found=tuple(found), absent=tuple(absent), missed=tuple(left))


def key_phrases(text: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
    """What a text speaks of, in lower case, repeats included: runs of words between small words and punctuation (after
    RAKE, Rose et al. 2010), or what a pattern matches (its one group, if it has one).

    Example: "There is a red circle and a blue star." speaks of "red circle" and "blue star".
    """
    if pattern is not None:
        found = [match[1 if pattern.groups else 0] or "" for match in pattern.finditer(text)]
        return tuple(" ".join(part.lower().split()) for part in found if part.strip())
    runs: list[list[str]] = [[]]
    for piece in _WORDS_AND_MARKS.findall(text.lower()):
        if piece in SMALL_WORDS or not piece[0].isalnum():
            runs.append([])
        else:
            runs[-1].append(piece)
    return tuple(" ".join(run) for run in runs if run)


def agreement(text: str, witness: str, pattern: re.Pattern[str] | None = None) -> tuple[int, int, int]:
    """How many phrases (`key_phrases`) a text shares with another, has alone, and leaves out; each counts once."""
    mine, theirs = (Counter(key_phrases(one, pattern)) for one in (text, witness))
    shared = (mine & theirs).total()
    return shared, mine.total() - shared, theirs.total() - shared


def yes_or_no(text: str) -> bool | None:
    """The verdict of a short answer: exactly one of the words yes and no must occur."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    if ("yes" in words) == ("no" in words):
        return None
    return "yes" in words


def whole_number(text: str) -> int | None:
    """The one whole number of a short answer; several, a negative, a huge or a broken one are no answer."""
    if re.search(r"[0-9](?:[.,][0-9]|[eE][-+]?[0-9])", text):
        return None
    numbers = {n.lstrip("0") or "0" for n in re.findall(r"[-−]?[0-9]+", text)}
    if len(numbers) != 1 or len(only := numbers.pop()) > 9 or not only.isdigit():
        return None
    return int(only)


def sentence_ends(text: str) -> tuple[int, ...]:
    """One past the last character of every sentence; the last one ends with the text."""
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)", text)]
    return (*ends, len(text)) if text[ends[-1] if ends else 0 :].strip() else tuple(ends)


def is_refusal(text: str) -> bool:
    """Whether the answer declines."""
    return REFUSAL.search(text) is not None


@lru_cache(maxsize=8)
def _phrase_pattern(colours: tuple[str, ...], shapes: tuple[str, ...]) -> re.Pattern[str]:
    colour, shape = "|".join(map(re.escape, colours)), "|".join(map(re.escape, shapes))
    between = rf"(?:\s+(?!(?:{colour}|and|or|an?|the)\b)[a-z]+){{0,2}}?"
    return re.compile(rf"\b(?P<colour>{colour}){between}\s+(?P<shape>{shape})(?:e?s)?\b", re.IGNORECASE)
