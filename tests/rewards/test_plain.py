"""Plain text: what only looks like a letter is that letter, and what is not seen is gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.rewards.plain import folded, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red circle\n3.", "red circle\n3."),
        ("\uff4e\uff4f", "no"),
        ("n\u043e \u0410nna \u0391", "no Anna A"),
        ("An\u200bn\u2060a \u202e!", "Anna !"),
        ("f\u00f3rty f\u0301", "forty f"),
        ("\u24b6 \U0001f130 \U0001f170 \U0001f1e6 \U0001d5d4", "A A A A A"),
        ("isn\u2019t \u2212 3", "isn't - 3"),
        ("\u56db \u0434\u0430", "\u56db \u0434a"),
        ("a\x00b\x1bc", "abc"),
    ],
)
def test_plain_by_hand(text, expected):
    assert plain(text) == expected


@given(st.text(max_size=60))
def test_plain_text_is_plain_already(text):
    once = plain(text)
    assert plain(once) == once
    assert folded(text) == once.casefold()
