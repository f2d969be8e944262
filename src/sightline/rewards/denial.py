"""What a text denies: "no red circle", "there is not a dog or a cat", "the star is not there".

A rule on English words, no reading: a denial reaches the phrase that follows it within a few words and those listed
with that phrase, and "is not there" the phrases right before it. Reads plain text (`plain`). Knows no rewards.
"""

import re
from collections.abc import Sequence

from sightline.rewards.plain import plain

_CONTRACTED = "is|are|was|were|do|does|did|has|have|had|can|could|would|wo|ca|ai|should"
DENIAL = re.compile(
    r"(?<![^\W_])(?:no|not|nope|cannot|nor|neither|never|none|nothing|nowhere|without|lacks?|lacking|deny|denies|denied"
    rf"|denying|false|untrue|hardly|absence|devoid|except|(?:{_CONTRACTED})n['’]?t)(?![^\W_])",
    re.IGNORECASE,
)
"""A word that denies what follows it."""
_NONE_OF = re.compile(r"(?<![^\W_])(?:0|zero)(?![^\W_])", re.IGNORECASE)
_FILLERS = frozenset(
    re.findall(
        r"[a-z]+",
        "a an the any one single such thing things as sign signs trace traces hint of kind sort other more at all even "
        "really actually visible i we you can could see seen be is are was were there here to it that this these those "
        "in on picture image photo for say says said claim true contain contains containing show shows showing have "
        "has find found exist exists appear appears so much by means whatsoever and or",
    )
)
"""Words that may stand between a denial and what it denies, besides one other."""
_LINK = re.compile(r"[\s,/&-]*(?:(?:and|or|nor|any|no|not|a|an|the|yet|also|even)[\s,]+)*", re.IGNORECASE)
_WHERE = "there|here|present|visible|shown|seen|depicted|pictured|drawn|to be|part of|(?:in|on) (?:the|this|that|it)"
_GONE = re.compile(
    rf"[\s,]*(?:(?:which|that|who|all|both)\s+)*(?:(?:is|are|was|were)\s*(?:not|n['’]?t|never)\s+(?:\w+\s+)?(?:{_WHERE})"
    r"|(?:is|are|was|were)\s+(?:\w+\s+)?(?:absent|missing|nowhere|gone|lacking|imaginary|false|untrue)"
    r"|(?:cannot|can['’]?t|can not|could not|couldn['’]?t)\s+be\s+(?:seen|found)"
    r"|(?:do|does|did)\s*(?:not|n['’]?t)\s+(?:exist|appear|occur))\b",
    re.IGNORECASE,
)
_NOT_HERE = re.compile(rf"{_GONE.pattern}|\b(?:absent|missing|nowhere)\b", re.IGNORECASE)
_STOP = re.compile(r"[.;:!?\n]|\b(?:but|however|although|though|only|while)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
MAX_GAP = 80
"""Characters between a denial and what it denies, at most."""


def denied(text: str, places: Sequence[tuple[int, int]]) -> list[bool]:
    """Which of the phrases at these places (start and end, in reading order) a text denies."""
    found: list[bool] = []
    joined: list[bool] = []
    for number, (start, _) in enumerate(places):
        after = places[number - 1][1] if number else 0
        if number and (gone_before := _GONE.match(text, after)) is not None:
            after = min(gone_before.end(), start)
        joined.append(number > 0 and _LINK.fullmatch(text, after, start) is not None)
        found.append((joined[-1] and found[-1]) or _is_denied(text, start, after=after))
    gone = False
    for number in reversed(range(len(places))):
        follows = number + 1 < len(places) and joined[number + 1]
        gone = (gone and follows) or _GONE.match(text, places[number][1]) is not None
        found[number] = found[number] or gone
    return found


def _is_denied(text: str, start: int, *, after: int) -> bool:
    """Whether a denial stands close before a phrase, with nothing between but words that join."""
    window = text[max(after, start - MAX_GAP) : start]
    ends = [match.end() for match in _STOP.finditer(window)]
    window = window[ends[-1] if ends else 0 :]
    denials = [match.end() for match in (*DENIAL.finditer(window), *_NONE_OF.finditer(window))]
    if not denials:
        return False
    between = _WORD.findall(window[max(denials) :].lower())
    return sum(word not in _FILLERS for word in between) <= 1


def clauses(text: str) -> list[tuple[str, bool]]:
    """A text as clauses, each with whether it denies something; what a text has around its clauses is left out."""
    found: list[tuple[str, bool]] = []
    start = 0
    for stop in (*_STOP.finditer(text), None):
        end = len(text) if stop is None else stop.end() if stop[0].strip().isalpha() is False else stop.start()
        clause = text[start:end].strip()
        start = end if stop is None else stop.end()
        if any(character.isalnum() for character in clause):
            shown = plain(clause)
            denies = DENIAL.search(shown) is not None or _NOT_HERE.search(shown) is not None
            found.append((clause, denies))
    return found


def denies_anything(text: str, *, besides: str = "") -> bool:
    """Whether there is any denial in a short answer; words that `besides` has too do not count."""
    kept = {match[0].lower() for match in DENIAL.finditer(besides)}
    return any(match[0].lower() not in kept for match in DENIAL.finditer(text))
