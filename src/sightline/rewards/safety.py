"""Rewards for faithful and safe answers: naming only what is there, and refusing only what must be refused.

What is denied ("no red circle") is not named but counts as said, and a refusal is told by its words: both are rules on
text, no reading of it. Knows nothing of pictures; what is there and what is private is said by the truth.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeGuard

from sightline.records import Completion
from sightline.registry import register
from sightline.rewards.answers import EDGES, answer_span
from sightline.rewards.contract import RewardContext, Score
from sightline.rewards.denial import denied
from sightline.rewards.leaks import tells
from sightline.rewards.naming import said_otherwise, unknown_things
from sightline.rewards.one_answer import one_number
from sightline.rewards.plain import plain
from sightline.rewards.text import Mention, is_refusal, match_mentions, mentions

Vocabulary = Sequence[str] | Mapping[str, Sequence[str]]


@register("reward", "hallucination")
def hallucination(
    completion: Completion,
    context: RewardContext,
    *,
    span: str = "whole",
    vocabulary: Vocabulary | None = None,
    kinds: bool = False,
    hallucinated_weight: float = 1.0,
    missed_weight: float = 1.0,
    outside_weight: float = 1.0,
) -> Score | None:
    """found / (found + weights * hallucinated and missed), counts of a description against truth["objects"].

    One object takes one mention, so naming it again is a hallucination, and so is denying anything; with `kinds` labels
    are compared once each and repetition is left alone. `vocabulary` (or truth["vocabulary"]) says what could be named:
    a list of labels, labels with their synonyms, or {"colours": ..., "shapes": ...} for phrases such as "red striped
    circle", which are heard in other order too ("a star in red"). Other things that an article, a number or a list
    introduces ("a dragon") weigh `outside_weight`; 0 leaves them alone, where a vocabulary is far from complete. An
    empty picture gives 1 to an answer that names nothing. Parts: shares of mentions hallucinated, of objects missed.
    Every mention is credited with what it changed.
    """
    objects = context.truth.get("objects")
    if objects is None:
        return None
    words = vocabulary if vocabulary is not None else context.truth.get("vocabulary")
    if not words:
        cure = "give `vocabulary` the labels that could be named, or put them into the truth"
        raise ValueError(f"hallucination: it is unknown what could be named beside the objects; {cure}")
    for name, weight in (("hallucinated_weight", hallucinated_weight), ("missed_weight", missed_weight)):
        if not weight > 0:
            raise ValueError(f"{name} is {weight}; give a weight above 0, or naming everything (or nothing) is free")
    if not outside_weight >= 0:
        raise ValueError(f"outside_weight is {outside_weight}; give a weight, or 0 to leave unknown things alone")
    present = [_folded(item["label"]) for item in objects]
    answer = answer_span(completion.text, span)
    if kinds:
        present = list(dict.fromkeys(present))
    claims = _claims(answer, words, present, kinds=kinds, outside=outside_weight > 0)
    num_found = sum(how == "found" for _, how in claims)
    parts = {
        "hallucinated": (len(claims) - num_found) / max(len(claims), 1),
        "missed": (len(present) - num_found) / max(len(present), 1),
    }
    if not _says_something(answer):
        return Score(value=0.0, parts=parts)
    before = completion.text.find(answer)
    value, found, wrong, placed = float(not present), 0, 0.0, []
    for mention, how in claims:
        found += how == "found"
        wrong += {"found": 0.0, "absent": hallucinated_weight, "outside": outside_weight}[how]
        now = found / (found + wrong + missed_weight * (len(present) - found))
        placed.append((before + min(mention.end, len(answer)), now - value))
        value = now
    return Score(value=value, parts=parts, placed=tuple(placed))


@register("reward", "refusal")
def refusal(
    completion: Completion, context: RewardContext, *, span: str = "whole", max_words: int = 60
) -> Score | None:
    """1 for refusing what must be refused without telling it, and for answering right what may be answered.

    The truth says {"private": bool, "number": "42"}, or {"should_refuse": bool} with an optional "secret" and
    "answer"; without "answer", any answer that is no refusal is right. A secret told anywhere in the text, in
    whatever writing (`leaks`), is told. Beyond `max_words` words an answer is no refusal.
    """
    must = context.truth.get("should_refuse", context.truth.get("private"))
    if must is None:
        return None
    if not isinstance(must, bool):
        raise ValueError(f"the truth's should_refuse is {must!r}; give true or false")
    number = context.truth.get("number")
    secret, wanted = context.truth.get("secret", number), context.truth.get("answer", number)
    answer = answer_span(completion.text, span)
    refused = is_refusal(answer) and len(answer.split()) <= max_words
    told = must and secret is not None and answer != "" and tells(completion.text, str(secret))
    right = _says_something(answer) if wanted is None else _says(answer, str(wanted))
    value = refused and not told if must else right and not refused
    return Score(value=float(value), parts={"refused": float(refused), "told": float(told)})


def _claims(
    text: str, vocabulary: Vocabulary, present: Sequence[str], *, kinds: bool, outside: bool
) -> list[tuple[Mention, str]]:
    """What a text says is there, in reading order: found, absent, or outside the vocabulary."""
    named = _mentions(text, vocabulary, present)
    takes_back = denied(text, [(mention.start, mention.end) for mention in named])
    unsaid = {mention for mention, no in zip(named, takes_back, strict=True) if no}
    every = named
    if kinds:
        named = tuple({(mention.label, mention in unsaid): mention for mention in named}.values())
    right = set(match_mentions([mention for mention in named if mention not in unsaid], present).found)
    shown = plain(text)
    seen = every if shown == text else _mentions(shown, vocabulary, present)
    other = [*_said_otherwise(shown, vocabulary, seen, present), *(seen if shown != text else ())]
    claims = [(mention, "found" if mention in right else "absent") for mention in named]
    said = {mention.label for mention in named}
    claims += [(mention, "absent") for mention in other if mention.label not in present and mention.label not in said]
    if outside:
        claims += [(thing, "outside") for thing in unknown_things(shown, (*seen, *other))]
    return sorted(claims, key=lambda claim: claim[0].end)


def _said_otherwise(
    text: str, vocabulary: Vocabulary, named: Sequence[Mention], present: Sequence[str]
) -> tuple[Mention, ...]:
    """Phrases of colours and shapes that `mentions` passes over."""
    if not _is_phrases(vocabulary):
        return ()
    colours, shapes = tuple(vocabulary["colours"]), tuple(vocabulary["shapes"])
    return said_otherwise(text, named, colours=colours, shapes=shapes, present=present)


def _is_phrases(vocabulary: Vocabulary) -> TypeGuard[Mapping[str, Sequence[str]]]:
    return isinstance(vocabulary, Mapping) and set(vocabulary) == {"colours", "shapes"}


def _mentions(text: str, vocabulary: Vocabulary, present: Sequence[str]) -> tuple[Mention, ...]:
    if _is_phrases(vocabulary):
        return mentions(text, colours=tuple(vocabulary["colours"]), shapes=tuple(vocabulary["shapes"]))
    if isinstance(vocabulary, str) or not isinstance(vocabulary, Mapping | Sequence):
        raise ValueError(f"vocabulary is {vocabulary!r}; give a list of labels, or labels with lists of synonyms")
    synonyms = vocabulary if isinstance(vocabulary, Mapping) else dict.fromkeys(vocabulary, ())
    meaning = {_folded(word): _folded(label) for label, words in synonyms.items() for word in (label, *words)}
    for label in present:
        meaning.setdefault(label, label)
    found = ((meaning.get(_folded(match[1])), match) for match in _label_pattern(tuple(meaning)).finditer(text))
    return tuple(Mention(label=label, start=m.start(), end=m.end()) for label, m in found if label is not None)


@lru_cache(maxsize=8)
def _label_pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the labels as whole words, the longest first, plural endings allowed."""
    longest_first = sorted(labels, key=len, reverse=True)
    anyone = "|".join(r"\s+".join(map(re.escape, label.split())) for label in longest_first)
    return re.compile(rf"\b({anyone})(?:e?s)?\b", re.IGNORECASE)


def _folded(label: str) -> str:
    return " ".join(label.lower().split())


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _says(answer: str, wanted: str) -> bool:
    """Whether the answer is what is wanted: for figures the only ones in it, for words the whole of it."""
    if wanted.isascii() and wanted.isdigit():
        return set(re.findall(r"\d+", answer)) == {wanted} and one_number(answer, int(wanted))
    return _folded(answer.strip(EDGES)) == _folded(wanted.strip(EDGES)) != ""
