"""What a description says that is not there, in whatever words: things of the vocabulary said another way, and others.

`text.mentions` and the labels of a vocabulary find what is said as one would say it; here is what that passes over: a
phrase the other way round ("a star in red", "red-star"), a shape without its colour, and things that no vocabulary
knows ("a purple dragon", "two aeroplanes"). Rules on English words, no reading: a thing is what an article or a number
introduces, outside "in the park", "on a street". Reads plain text (`plain`). Knows no rewards.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from sightline.rewards.text import SMALL_WORDS, Mention

_SETTING = frozenset(
    re.findall(
        r"[a-z]+",
        "in on at of under over behind against during from into through to by near down up along across inside around "
        "for as like above below between beneath within onto toward towards",
    )
)
"""Words before what is a place, a time or a part rather than a thing that is there."""
_GENERAL = frozenset(
    re.findall(
        r"[a-z]+",
        "picture image photo photograph scene view drawing background foreground middle centre center left right top "
        "bottom side corner edge row line group pair lot number few bit kind set total couple shape shapes object "
        "objects thing things figure figures item items colour color size shot close closeup grey gray white black "
        "plain ground canvas way day sunny dark bright other others more description answer question nothing",
    )
)
"""Nouns that name nothing by themselves."""
_COUNTED = re.compile(
    r"\b(?P<how>an?|another|one|two|three|four|five|six|seven|eight|nine|ten|several|many|some|[0-9]{1,3})\s+",
    re.IGNORECASE,
)
_PIECE = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_BARE = re.compile(
    r"(?:,|\band\b|\bor\b|&)\s+([^\W\d_]{2,40}s|people|men|women|children)\s*(?=[,.;!?&]|\band\b|\bor\b|$)"
)
MAX_WORDS = 4
"""Words of a thing that an article introduces, at most."""
REACH = 40
"""Characters between a shape and its colour, at most."""
Token = tuple[tuple[str, str], tuple[int, int]]
"""Whether a word is a colour or a shape, which one, and where it stands."""


def said_otherwise(
    text: str, named: Sequence[Mention], *, colours: Collection[str], shapes: Collection[str], present: Collection[str]
) -> tuple[Mention, ...]:
    """Phrases of a colour and a shape in other order or with signs between, and shapes of which nothing is there.

    Shapes and colours inside what has been `named` are not looked at again. A shape without a colour is left alone
    where something of that shape is present.
    """
    tokens = [token for token in _tokens(text, tuple(colours), tuple(shapes)) if not _inside(token[1], named)]
    there = {label.rpartition(" ")[2] for label in present}
    found: list[Mention] = []
    used: set[int] = set()
    for place, ((kind, word), (start, end)) in enumerate(tokens):
        if kind != "shape":
            continue
        beside = _colour_of(text, tokens, place, used)
        if beside is not None:
            used.add(beside)
            (_, colour), (colour_start, colour_end) = tokens[beside]
            found.append(Mention(label=f"{colour} {word}", start=min(start, colour_start), end=max(end, colour_end)))
        elif word not in there:
            found.append(Mention(label=word, start=start, end=end))
    return tuple(found)


def unknown_things(text: str, named: Sequence[Mention]) -> tuple[Mention, ...]:
    """Things that an article, a number or a list introduces and that nothing in `named` accounts for."""
    found: list[Mention] = []
    for match in _COUNTED.finditer(text):
        words = _phrase(text, match.end())
        before = _PIECE.findall(text[max(0, match.start() - 24) : match.start()])
        setting = bool(before) and before[-1].lower() in _SETTING
        if not words or setting:
            continue
        start, end = words[0].start(), words[-1].end()
        general = {word[0].lower() for word in words} <= _GENERAL or words[-1][0].lower() in _GENERAL
        if not general and not any(mention.start < end and start < mention.end for mention in named):
            found.append(Mention(label=text[start:end].lower(), start=start, end=end))
    for match in _BARE.finditer(text.lower()):
        start, end = match.span(1)
        known = any(mention.start < end and start < mention.end for mention in (*named, *found))
        if not known and match[1] not in _GENERAL and match[1] not in SMALL_WORDS:
            found.append(Mention(label=match[1], start=start, end=end))
    return tuple(sorted(found, key=lambda mention: mention.start))


def _phrase(text: str, start: int) -> list[re.Match[str]]:
    """The words from a place on up to a small word, a mark or a few words."""
    words: list[re.Match[str]] = []
    while len(words) < MAX_WORDS and (match := _PIECE.match(text, start)) is not None:
        if match[0].lower() in SMALL_WORDS:
            break
        words.append(match)
        start = match.end() + (text[match.end() : match.end() + 1] == " ")
    return words


def _colour_of(text: str, tokens: Sequence[Token], place: int, used: Collection[int]) -> int | None:
    """The colour before or after a shape, with no other shape between."""
    before, after = place - 1, place + 1
    if before >= 0 and tokens[before][0][0] == "colour" and before not in used and _near(text, tokens, before, place):
        return before
    if after < len(tokens) and tokens[after][0][0] == "colour" and _near(text, tokens, place, after):
        own = after + 1 < len(tokens) and tokens[after + 1][0][0] == "shape" and _near(text, tokens, after, after + 1)
        return None if own else after
    return None


def _near(text: str, tokens: Sequence[Token], first: int, second: int) -> bool:
    """Whether two words stand close together in one clause."""
    start, end = tokens[first][1][1], tokens[second][1][0]
    return end - start <= REACH and re.search(r"[.;,!?\n]", text[start:end]) is None


def _inside(span: tuple[int, int], named: Sequence[Mention]) -> bool:
    return any(mention.start <= span[0] and span[1] <= mention.end for mention in named)


def _tokens(text: str, colours: tuple[str, ...], shapes: tuple[str, ...]) -> list[Token]:
    """Every colour and every shape of a text with its place; a shape's plural is the shape."""
    pattern = _word_pattern(colours, shapes)
    found: list[Token] = []
    for match in pattern.finditer(text):
        kind = "colour" if match["colour"] else "shape"
        found.append(((kind, match[kind].lower()), match.span()))
    return found


@lru_cache(maxsize=8)
def _word_pattern(colours: tuple[str, ...], shapes: tuple[str, ...]) -> re.Pattern[str]:
    colour, shape = "|".join(map(re.escape, colours)), "|".join(map(re.escape, shapes))
    return re.compile(rf"(?<![^\W_])(?:(?P<colour>{colour})|(?P<shape>{shape})(?:e?s)?)(?![^\W_])", re.IGNORECASE)
