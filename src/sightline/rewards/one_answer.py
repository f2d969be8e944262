"""Whether a short answer names one thing and stands by it: one number, one verdict, one letter.

An answer that names two earns nothing, however the second one is written: in words or Roman numerals, in letters of
other kinds, by the text of an option, as a range, or by taking the first one back. Rules on English words, no reading;
what explains itself at length belongs outside the span that is scored. Knows no rewards and no truths.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from sightline.rewards.denial import DENIAL, denied, denies_anything
from sightline.rewards.plain import folded, plain
from sightline.rewards.spoken import MULTIPLES, roman_numbers, spoken_numbers
from sightline.rewards.text import yes_or_no

_RANGE = re.compile(
    r"\b(?:at (?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|lower|other) than|or (?:more|less|fewer)"
    r"|or so|up to|between|above|below|over|under|beyond|minimum|maximum|unlike|wrong|incorrect|either|maybe|perhaps)\b"
    r"|[<>≤≥≠±]|[0-9]\+",
    re.IGNORECASE,
)
_YES = frozenset(
    re.findall(r"[a-z]+", "yes yep yeah yup yea aye ja oui si da true correct right indeed affirmative sure")
)
_NO = frozenset(re.findall(r"[a-z]+", "no nope nah nay nein non nyet niet nao false negative"))
_DOUBT = frozenset(
    re.findall(
        r"[a-z]+", "or either maybe perhaps possibly both neither wrong incorrect untrue unsure uncertain unless hardly"
    )
)
_ARTICLE = re.compile(r"\s+[a-z]{2,}")
_LETTER = re.compile(r"(?<![^\W\d_])([A-Za-z])(?i:\1)*(?![^\W\d_])")


def one_number(text: str, given: Fraction | int, *, wanted: str = "", single_letters: bool = False) -> bool:
    """Whether an answer with this number in figures says no other one, and neither denies it nor makes it a range.

    What the truth itself says (`wanted`, such as "under 5 million") is no fault. `single_letters` takes V and X for
    numerals, where no units are to be expected.
    """
    shown, truth = plain(text), plain(wanted)
    others = {*spoken_numbers(shown), *roman_numbers(shown, single=single_letters)}
    allowed = {given, *spoken_numbers(truth), *roman_numbers(truth)}
    percent = re.findall(r"[0-9]\s*%", shown)
    mixed = bool(percent) and len(percent) < len(re.findall(r"[0-9](?![0-9.,])", shown))
    return (
        others <= allowed
        and not mixed
        and not denies_anything(re.sub(r"\bno\.?\s*(?=[0-9])", "", shown, flags=re.IGNORECASE), besides=truth)
        and not any(_new(pattern, shown, truth) for pattern in (_RANGE, MULTIPLES))
    )


def one_verdict(text: str) -> bool | None:
    """Yes or no, when an answer says one of these words, and none of the other side, of doubt or in other letters."""
    shown = folded(text)
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", shown)
    if not all(word.isascii() for word in words):
        return None
    said = {word.strip("'") for word in words}
    yes, no = bool(said & _YES), bool(said & _NO)
    if yes == no or yes_or_no(text) is not yes or said & _DOUBT or any(any(c.isdigit() for c in w) for w in said):
        return None
    if yes and DENIAL.search(shown) is not None:
        return None
    if no and re.search(r"\b(?:not|n['’]t|never|without)\s+(?:a\s+)?no\b|\bno\s+(?:longer|doubt|question)\b", shown):
        return None
    return yes


def one_letter(text: str, letters: str, texts: Mapping[str, str]) -> str | None:
    """The letter of the one option that an answer names, by its letter and, where `texts` are known, by no other's."""
    shown = plain(text)
    bare = shown.strip(" \t\r\n.,:;*()[]'\"`")
    if len(bare) == 1 and bare.upper() in letters:
        return bare.upper()
    places = [match for match in _LETTER.finditer(shown) if _is_option(match, shown, letters)]
    named = {match[1].upper() for match in places}
    capitals = [match for match in places if match[1].isupper()]
    if len(named) != 1 or not capitals:
        return None
    [letter] = named
    spans = [(match.start(), match.end()) for match in capitals]
    taken_back = (
        any(denied(shown, spans)) or re.search(r"\b(?:wrong|incorrect|not|\w+n['’]t)\b", shown.lower()) is not None
    )
    return None if taken_back or _names_another(shown, letter, texts) else letter


def _is_option(match: re.Match[str], text: str, letters: str) -> bool:
    """Whether a letter that stands alone can be an option: of those there are, no article, no end of "it's"."""
    small = match[1].islower()
    article = match[0] == "a" and _ARTICLE.match(text, match.end()) is not None
    ending = small and text[: match.start()].endswith(("'", "’"))
    return match[1].upper() in letters and not article and not ending


def _names_another(text: str, letter: str, texts: Mapping[str, str]) -> bool:
    """Whether the text of another option stands in an answer, outside the text of the one that it names."""
    rest = f" {_spaced(text)} "
    for other, said in sorted(texts.items(), key=lambda item: -len(item[1])):
        words = _spaced(said)
        if len(words) > 1 and f" {words} " in rest:
            if other != letter and words != _spaced(texts.get(letter, "")):
                return True
            rest = rest.replace(f" {words} ", " | ")
    return False


def _spaced(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", folded(text)))


def _new(pattern: re.Pattern[str], text: str, truth: str) -> bool:
    """Whether a text has matches that the truth has not."""
    return bool({m.lower() for m in pattern.findall(text)} - {m.lower() for m in pattern.findall(truth)})
