"""Text as a reader sees it: letters that only look like others, marks of no width and signs of other kinds made plain.

A reward that looks for a word must find it however it is written: in full-width or circled letters, with Cyrillic ones
among them, with accents, or with marks of no width between. Knows no words and no rewards.
"""

import unicodedata
from functools import lru_cache

_LOOK_ALIKE = str.maketrans(
    {  # Cyrillic, Greek, others of Latin, dashes, apostrophes
        **dict(
            zip(
                "\u0430\u0432\u0435\u0451\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0475",
                "abeekmhopctyxijshdqwv",
                strict=True,
            )
        ),
        **dict(
            zip(
                "\u0410\u0412\u0415\u0401\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405\u04ba\u0500\u051a\u051c\u0474",
                "ABEEKMHOPCTYXIJSHDQWV",
                strict=True,
            )
        ),
        **dict(
            zip(
                "\u03b1\u03b2\u03b5\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u03b3\u03c9",
                "abenikvoptuxyw",
                strict=True,
            )
        ),
        **dict(
            zip(
                "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
                "ABEZHIKMNOPTYX",
                strict=True,
            )
        ),
        **dict(zip("\u0131\u0142\u00f8\u0111\u0192\u0251\u0261\u0269\u028f", "ilodfagiy", strict=True)),
        **dict(zip("\u0141\u00d8\u0110", "LOD", strict=True)),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'"),
    }
)
_ALPHABETS = (0x1F150, 0x1F170, 0x1F1E6)
"""Where letters in black circles, in black squares and of flags begin; NFKC leaves them."""
FORMATS = ("Cf", "Cc", "Co", "Cn", "Mn", "Me")
"""Categories of what has no width: format and control characters, what is assigned to nobody, marks on letters."""


def plain(text: str) -> str:
    """The text in plain letters; space and line breaks stay, case stays, and so does what looks like nothing else."""
    return text if text.isascii() and text.isprintable() else _plain(text)


def folded(text: str) -> str:
    """The plain text in lower case."""
    return plain(text).casefold()


@lru_cache(maxsize=256)
def _plain(text: str) -> str:
    bare = "".join(_letter(c) for c in text)
    parts = unicodedata.normalize("NFKD", bare)
    shown = "".join(c for c in parts if c.isspace() or unicodedata.category(c) not in FORMATS)
    return unicodedata.normalize("NFC", shown).translate(_LOOK_ALIKE)


def _letter(character: str) -> str:
    code = ord(character)
    for start in _ALPHABETS:
        if start <= code < start + 26:
            return chr(ord("A") + code - start)
    return character
