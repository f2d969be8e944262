"""Strict reading of what a judge said: a verdict in the form that was asked for, or a reason why there is none.

Only the judge's own reply is read, never an answer. What does not have the form is counted by kind and is no verdict:
nothing here guesses. A line of form may carry Markdown (`**Rating:** 4/5`), since many models cannot help it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sightline.rewards.ask import Reply
from sightline.rewards.text import yes_or_no as either

REFUSED = "refused"
FAILED = "failed"
MAX_CLAIMS = 32

_EMPHASIS = re.compile(r"[*_`]")
_NUMBER = r"[\[(]?(?P<value>[-−]?\d{1,9}(?:[.,]\d{1,9})?)[\])]?(?: ?(?:/|out of) ?(?P<of>\d{1,9}))?"
_WORD = r"[\[(]?(?P<value>first|second|tie)[\])]?"
_THOUGHT = re.compile(r"\s*<think>(?:.*?</think>|.*\Z)", re.DOTALL)
_CLAIM = re.compile(r"(?:[-*•]|\d+[.)])\s+(\S.*)")
_YES_NO = re.compile(r"[\W_]*(yes|no)\b", re.IGNORECASE)
_DECLINES = re.compile(
    r"\A\W*sorry\b|\b(?:i|we)(?:['’]m| am|['’]re| are| must)?\s+(?:sorry|cannot|can['’]?t|can not|could not|couldn['’]t"
    r"|will not|won['’]t|unable|not able|refuse|decline|apologi[sz]e)\b",
    re.IGNORECASE,
)
_HEAD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reply says. Example: `Reading(value=4.0)`, or `Reading(problem="no verdict")`."""

    value: float | None = None
    """The verdict: a rating; 1 for the first and -1 for the second answer, 0 for a tie; 1 for yes and 0 for no."""
    claims: tuple[str, ...] = ()
    """What an answer claims, of a reply that lists that."""
    problem: str | None = None
    """Why there is no verdict: "failed" (no reply came), "refused", or a kind of malformed reply."""


Read = Callable[[str], Reading]


def read_reply(reply: Reply, read: Read) -> Reading:
    """The verdict of a reply. Of one that was cut its last line does not count: it may lack its end."""
    if reply.problem is not None or reply.text is None:
        return Reading(problem=FAILED if reply.problem is not None else REFUSED if reply.refused else "empty")
    if reply.refused:
        return Reading(problem=REFUSED)
    said = _THOUGHT.sub("", reply.text, count=1).strip()
    whole = said if reply.finished else said[: max(said.rfind("\n"), 0)]
    reading = read(whole)
    if reading.problem is None:
        return reading
    if _is_refusal(said):
        return Reading(problem=REFUSED)
    return reading if reply.finished else Reading(problem="cut")


def rating(low: int, high: int) -> Read:
    """A reader of the one line "Rating: N", wherever it stands; N is a whole number from `low` to `high`."""

    def read(text: str) -> Reading:
        found = _lines(text, "rating", _NUMBER)
        return _number(found, low, high) if found else Reading(problem=_without(text))

    return read


def last_score(low: int, high: int) -> Read:
    """A reader of "Score: N" in the last line, after a critique."""

    def read(text: str) -> Reading:
        found = _lines(text, "score", _NUMBER)
        return _number(found, low, high) if _is_last(text, found) else Reading(problem=_without(text))

    return read


def verdict(text: str) -> Reading:
    """ "Verdict: first", "second" or "tie" in the last line."""
    found = _lines(text, "verdict", _WORD)
    if not _is_last(text, found):
        return Reading(problem=_without(text))
    words = {match["value"].lower() for _, match in found}
    if len(words) > 1:
        return Reading(problem="several verdicts")
    return Reading(value={"first": 1.0, "second": -1.0, "tie": 0.0}[words.pop()])


def yes_or_no(text: str) -> Reading:
    """A reply that begins with yes or no, and does not say the other one in the same line."""
    line = next(iter(_said_lines(text)), "")
    found = either(line) if _YES_NO.match(line) else None
    return Reading(problem=_without(text)) if found is None else Reading(value=float(found))


def claim_list(text: str) -> Reading:
    """Claims, one a line, each behind "- " or a number; "none" alone for an answer that claims nothing."""
    if text.strip(" \n.*•-").lower() == "none":
        return Reading()
    listed = [match[1].strip() for line in _said_lines(text) if (match := _CLAIM.match(line.strip())) is not None]
    if not listed:
        return Reading(problem=_without(text))
    claims = tuple(dict.fromkeys(listed))
    return Reading(claims=claims) if len(claims) <= MAX_CLAIMS else Reading(problem="too many claims")


def _lines(text: str, word: str, form: str) -> list[tuple[int, re.Match[str]]]:
    """The lines that say "WORD: form" and nothing else, with their numbers."""
    pattern = re.compile(rf"{word} ?: ?{form}\.?", re.IGNORECASE)
    plain = (" ".join(_EMPHASIS.sub("", line).lstrip("># ").split()) for line in _said_lines(text))
    found = ((number, pattern.fullmatch(line)) for number, line in enumerate(plain))
    return [(number, match) for number, match in found if match is not None]


def _number(found: list[tuple[int, re.Match[str]]], low: int, high: int) -> Reading:
    given = {(match["value"].replace("−", "-").replace(",", "."), match["of"] or str(high)) for _, match in found}
    if len(given) > 1:
        return Reading(problem="several verdicts")
    [(value, of)] = given
    number = float(value)
    if not (low <= number <= high and number == int(number) and int(of) == high):
        return Reading(problem="off the scale")
    return Reading(value=number)


def _is_last(text: str, found: list[tuple[int, re.Match[str]]]) -> bool:
    return bool(found) and found[-1][0] == len(_said_lines(text)) - 1


def _said_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _without(text: str) -> str:
    return "no verdict" if text.strip() else "empty"


def _is_refusal(text: str) -> bool:
    """Whether a reply without a verdict declines, told by how it begins."""
    return _DECLINES.search(text[:_HEAD]) is not None
