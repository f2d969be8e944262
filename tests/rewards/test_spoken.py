"""Numbers that are said otherwise than in figures."""

import pytest

from sightline.rewards.spoken import has_foreign_numbers, in_figures, roman_numbers, spoken_numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("forty-two", [42]),
        ("Forty and two", [42]),
        ("fortytwo", [42]),
        ("fourty two", [42]),
        ("fortyy  two", [42]),
        ("four two", [4, 2]),
        ("fourtwo", [4, 2]),
        ("one hundred and five", [105]),
        ("two thousand and twenty four", [2024]),
        ("three hundred forty two thousand one", [342001]),
        ("twenty, thirty", [20, 30]),
        ("sixty sixteen", [60, 16]),
        ("six times seven", [6, 7]),
        ("a dozen and a pair", [12, 2]),
        ("phone often listen stone weight", []),
        ("nothing, and no more", []),
        ("the forty-second", [40]),
    ],
)
def test_numbers_in_words(text, expected):
    assert spoken_numbers(text) == expected


def test_ordinals_are_numbers_when_they_are_asked_for():
    assert spoken_numbers("the forty-second, the third", ordinals=True) == [42, 3]
    assert in_figures("forty-two less the first").split() == ["42", "less", "the", "1"]


def test_every_number_below_a_million_is_read_back():
    ones = "zero one two three four five six seven eight nine".split()  # noqa: SIM905 - as one reads it
    tens = "x x twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
    for a in range(2, 10):
        for b in range(1, 10):
            assert spoken_numbers(f"{tens[a]}-{ones[b]} thousand {ones[b]} hundred and {tens[a]} {ones[b]}") == [
                (10 * a + b) * 1_000 + 100 * b + 10 * a + b
            ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IV or XLII", [4, 42]),
        ("I see V", [5]),
        ("5 CM, MIX", []),
        ("VIVID LIX", [59]),
        ("iv", []),
        ("MCMXCIX", [1999]),
    ],
)
def test_roman_numerals_in_capitals(text, expected):
    assert roman_numbers(text, single=True) == expected


def test_digits_of_other_kinds_are_seen():
    assert all(has_foreign_numbers(text) for text in ("\u56db", "\u0664", "\u2463", "\u00bd", "\uff14"))
    assert not has_foreign_numbers("42 \u00e9t\u00e9")
