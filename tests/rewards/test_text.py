"""Reading short answers: phrases, yes or no, numbers, refusals; and answers made to fool the reader."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.rewards.text import (
    agreement,
    is_refusal,
    key_phrases,
    match_mentions,
    mentions,
    sentence_ends,
    whole_number,
    yes_or_no,
)

COLOURS = ("red", "green", "blue")
SHAPES = ("circle", "square", "cross")


def labels(text: str) -> list[str]:
    return [mention.label for mention in mentions(text, colours=COLOURS, shapes=SHAPES)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a red circle.", ["red circle"]),
        ("a red circle, a blue square and a green cross", ["red circle", "blue square", "green cross"]),
        ("RED Circle", ["red circle"]),
        ("red\n  circle", ["red circle"]),
        ("red circles and green crosses", ["red circle", "green cross"]),
        ("a red large striped circle", ["red circle"]),
        ("a red very large striped circle", []),
        ("a red and blue square", ["blue square"]),
        ("a red, large circle", []),
        ("red and a circle, red or circle, red the circle", []),
        ("red green blue circle", ["blue circle"]),
        ("the circle is red", []),
        ("red circle square", ["red circle"]),
        ("bored circle, red circlet, infrared square", []),
        ("reds circle", []),
        ("", []),
        ("red red red", []),
        ("r\u0435d circle", []),  # a Cyrillic letter
    ],
)
def test_mentions_are_colour_and_shape_phrases(text, expected):
    assert labels(text) == expected


def test_mentions_say_where_they_stand():
    text = "There is a red  circle and a blue square."
    found = mentions(text, colours=COLOURS, shapes=SHAPES)
    assert [text[mention.start : mention.end] for mention in found] == ["red  circle", "blue square"]


@pytest.mark.parametrize(
    ("text", "present", "found", "absent", "missed"),
    [
        ("a red circle", ["red circle"], 1, 0, ()),
        ("a red circle", [], 0, 1, ()),
        ("", ["red circle"], 0, 0, ("red circle",)),
        ("red circle, red circle", ["red circle"], 1, 1, ()),
        ("red circle, red circle", ["red circle", "red circle"], 2, 0, ()),
        ("a red square", ["red circle"], 0, 1, ("red circle",)),
        ("red circle " * 1000, ["red circle", "blue square"], 1, 999, ("blue square",)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mentions_match_objects_one_to_one(text, present, found, absent, missed):
    naming = match_mentions(mentions(text, colours=COLOURS, shapes=SHAPES), present)
    assert (len(naming.found), len(naming.absent), naming.missed) == (found, absent, missed)


def test_naming_everything_finds_all_and_hallucinates_the_rest():
    everything = ", ".join(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
    naming = match_mentions(mentions(everything, colours=COLOURS, shapes=SHAPES), ["red circle", "blue cross"])
    assert (len(naming.found), len(naming.absent), naming.missed) == (2, 7, ())


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("yes", True),
        ("Yes.", True),
        ("'yes'", True),
        ("YES it is", True),
        ("no", False),
        ("No, there is none.", False),
        ("yes yes yes", True),
        ("yes or no", None),
        ("no yes", None),
        ("", None),
        ("yesno", None),
        ("nothing", None),
        ("true", None),
        ("1", None),
        ("\uff59\uff45\uff53", None),
    ],
)
def test_one_of_yes_and_no(text, verdict):
    assert yes_or_no(text) is verdict


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3),
        ("There are 3 shapes.", 3),
        ("3, so 3", 3),
        ("0003", 3),
        ("0", 0),
        ("000", 0),
        ("3 or 4", None),
        ("1 2 3 4 5 6 7 8 9", None),
        ("-3", None),
        ("−3", None),
        ("3.5", None),
        ("1e3", None),
        ("three", None),
        ("", None),
        ("\u0663", None),
        ("\uff13", None),
        ("\u00b3", None),
        ("999999999", 999_999_999),
        ("9999999999", None),
        ("9" * 10**6, None),
        ("0" * 10**6, 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_one_whole_number(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["I cannot read that out.", "Sorry, I can't.", "I can’t", "I won't", "I WILL NOT", "unable to say", "I refuse"],
)
def test_refusals_are_recognised(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", ["42", "", "I can read it: 42", "cant", "a refused parcel", "scannot", "not 42"])
def test_answers_are_no_refusals(text):
    assert not is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "red " * 50_000,
        "red" + " " * 200_000,
        "red a b " * 25_000,
        "red " + "a" * 200_000,
        "cannot" * 30_000,
        "[" * 200_000,
    ],
    ids=["colours", "spaces", "fillers", "one long word", "refusals", "brackets"],
)
def test_long_answers_are_read_to_their_end(text):
    mentions(text, colours=COLOURS, shapes=SHAPES), yes_or_no(text), whole_number(text), is_refusal(text)


@given(text=st.text(max_size=200))
def test_any_text_is_read_without_an_error(text):
    found = mentions(text, colours=COLOURS, shapes=SHAPES)
    assert all(0 <= mention.start < mention.end <= len(text) for mention in found)
    assert yes_or_no(text) in (True, False, None)
    assert (number := whole_number(text)) is None or 0 <= number < 10**9
    assert is_refusal(text) in (True, False)


@pytest.mark.parametrize("text", ["5.5", "5,5", "5e5", "5E-3", "there are 1.0"])
def test_a_broken_number_is_no_whole_number(text: str):
    assert whole_number(text) is None
    assert whole_number("There are 5.") == 5


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("One. Two! Three", (4, 9, 15)),
        ("One. Two.", (4, 9)),
        ("One", (3,)),
        ("At 3.5 m. ", (9,)),
        ("", ()),
        ("What?!  So.", (6, 11)),
    ],
)
def test_sentences_end_with_their_mark(text, ends):
    assert sentence_ends(text) == ends


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("There is an orange star and a yellow diamond.", ["orange star", "yellow diamond"]),
        ("A red circle, a RED circle; no blue\nstar", ["red circle", "red circle", "blue star"]),
        ("Two dogs run on the well-known beach (it's sunny)!", ["two dogs run", "well-known beach", "it's sunny"]),
        ("42 or 7", ["42", "7"]),
        ("the of and", []),
        ("", []),
    ],
)
def test_key_phrases_are_what_stands_between_small_words(text, phrases):
    assert list(key_phrases(text)) == phrases


def test_a_pattern_says_what_a_phrase_is():
    pattern = re.compile(r"\b(?:red|blue)\s+(circle|star)", re.IGNORECASE)
    assert key_phrases("A Red  Circle and a blue star, a green star", pattern) == ("circle", "star")
    whole = re.compile(r"(?:red|blue)\s+(?:circle|star)", re.IGNORECASE)
    assert key_phrases("A Red  Circle", whole) == ("red circle",)


def test_agreement_counts_every_phrase_once():
    own = "There is a red circle, a red circle and a blue star."
    assert agreement("There is a red circle and a green star.", own) == (1, 1, 2)
    assert agreement("a red circle, a red circle, a red circle", own) == (2, 1, 1)
    assert agreement("", own) == (0, 0, 3)
    assert agreement(own, own) == (3, 0, 0)


@given(st.text(), st.text())
def test_agreement_is_symmetric_for_any_texts(first: str, second: str):
    shared, alone, missed = agreement(first, second)
    assert agreement(second, first) == (shared, missed, alone)
