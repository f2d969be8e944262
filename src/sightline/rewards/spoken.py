"""Numbers that are said otherwise than in figures: in English words, Roman numerals, signs of other scripts.

Rewards that look for one number must see another one beside it, and those that look for a leak must see it in words.
Reads plain text (`plain`); figures are not read here. Knows no rewards.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_UNITS = re.findall(
    r"[a-z]+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
TENS = re.findall(r"[a-z]+", "twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS = re.findall(
    r"[a-z]+",
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth",
)
FIGURES = _UNITS[:10]
_BIG = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
_PAIRS = {"pair": 2, "couple": 2, "dozen": 12}
MULTIPLES = re.compile(
    r"\b(?:hundreds?|thousands?|millions?|billions?|dozens?|pairs?|couples?|half|halves|thirds?|quarters?|few|several"
    r"|many|twice|double|triple|some)\b",
    re.IGNORECASE,
)
"""Words that make another number of the one beside them."""
ROMAN = re.compile(r"(?=[IVXLCDM])M{0,3}(?:C[MD]|D?C{0,3})(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})")
_NO_NUMERALS = frozenset(("CM", "MM", "MI", "MIX", "CD", "DC", "MD", "DI", "LI", "MC", "DM", "CC", "CV", "MV", "ML"))
"""Units and words that happen to be numerals."""
_LETTERS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1_000}
_WORD = re.compile(r"[a-z]+")


def _shortened(word: str) -> str:
    """Letters that are doubled count once, so that "fortyy" is still forty."""
    return re.sub(r"(.)\1+", r"\1", word)


_VALUES = {_shortened(word): value for value, word in enumerate(_UNITS)}
_VALUES |= {_shortened(word): 10 * value for value, word in enumerate(TENS, start=2)} | {"fourty": 40, "ninty": 90}
_VALUES |= {_shortened(word): value for word, value in (_BIG | _PAIRS).items()}
_FIRSTS = {_shortened(word): value for value, word in enumerate(_ORDINALS)}
_FIRSTS |= {_shortened(word[:-1] + "ieth"): 10 * value for value, word in enumerate(TENS, start=2)}
_ANY_WORD = re.compile("|".join(sorted({*_VALUES, *_FIRSTS}, key=len, reverse=True)))
_JOINED = re.compile(rf"(?:{_ANY_WORD.pattern})+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A number in words. Example: in "at forty-two" `Spoken(value=42, start=3, end=12)`."""

    value: int
    """What it comes to."""
    start: int
    """First character."""
    end: int
    """One past the last character."""


def spoken_numbers(text: str, *, ordinals: bool = False) -> list[int]:
    """Numbers in English words, in their order: "forty-two", "forty and two" and "fortytwo" are 42, "four two" 4 and 2.

    With `ordinals` "forty-second" counts as 42 too.
    """
    return [spoken.value for spoken in spoken_in(text, ordinals=ordinals)]


def spoken_in(text: str, *, ordinals: bool = False) -> list[Spoken]:
    """The same with their places."""
    found: list[Spoken] = []
    whole, last = 0, 0
    start = end = -1

    def close() -> None:
        nonlocal whole, last, start
        if start >= 0:
            found.append(Spoken(value=whole + last, start=start, end=end))
        whole, last, start = 0, 0, -1

    for word, begins, ends in _words(text.lower()):
        value = _VALUES.get(word, _FIRSTS.get(word) if ordinals else None)
        if value is None:
            if word != "and":
                close()
            continue
        if value >= 100:
            last = max(last, 1) * value
            if value >= 1_000:
                whole, last = whole + last, 0
        elif start >= 0 and _goes_on(whole, last, value):
            last += value
        else:
            close()
            last = value
        start, end = (begins if start < 0 else start), ends
    close()
    return found


def in_figures(text: str, *, ordinals: bool = True) -> str:
    """The text with numbers in words as figures: "forty-two less one" is "42 less 1"."""
    parts, done = [], 0
    for spoken in spoken_in(text, ordinals=ordinals):
        parts += [text[done : spoken.start], f" {spoken.value} "]
        done = spoken.end
    return "".join([*parts, text[done:]])


def words_within(letters: str) -> list[int]:
    """Numbers whose words stand in a run of letters, wherever: "xfourtwo" has 4 and 2."""
    return spoken_numbers(" ".join(_ANY_WORD.findall(_shortened(letters.lower()))), ordinals=True)


def roman_numbers(text: str, *, single: bool = False) -> list[int]:
    """Roman numerals in capitals that stand alone, of two letters and more; with `single` V and X too."""
    words = (match[0] for match in re.finditer(r"(?<![^\W_])[IVXLCDM]+(?![^\W_])", text))
    taken = (word for word in words if ROMAN.fullmatch(word) and word not in _NO_NUMERALS)
    return [_roman(word) for word in taken if len(word) > 1 or (single and word in "VX")]


def has_foreign_numbers(text: str) -> bool:
    """Whether digits of other scripts, circled or raised ones, or fractions hide a second number."""
    return not text.isascii() and any(c > "\x7f" and unicodedata.numeric(c, None) is not None for c in text)


def _goes_on(whole: int, last: int, value: int) -> bool:
    """Whether a word goes on with the number so far: a unit after tens, anything below a hundred after hundreds."""
    return (
        (last == 0 < whole)
        or (last % 100 >= 20 and last % 10 == 0 and 0 < value < 10)
        or (last >= 100 and last % 100 == 0)
    )


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    """Words with doubled letters once and their places, those of several numbers written together apart."""
    for match in _WORD.finditer(text):
        word = _shortened(match[0])
        parts = _ANY_WORD.findall(word) if word not in _VALUES and _JOINED.fullmatch(word) else [word]
        yield from ((part, match.start(), match.end()) for part in parts)


def _roman(numeral: str) -> int:
    values = [_LETTERS[letter] for letter in numeral]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
