"""What a text denies, and what it does not though there is a "no" in it."""

import re

import pytest

from sightline.rewards.denial import denied, denies_anything

THING = re.compile(r"(?:red|blue|green) (?:circle|star|square)|dog|cat|frisbee")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is no red circle, no blue star and no green square.", [True, True, True]),
        ("There is no red circle, blue star or green square.", [True, True, True]),
        ("A red circle, a blue star and a green square are not there.", [True, True, True]),
        ("There isn't a dog or a cat. A frisbee is here.", [True, True, False]),
        ("There is a red circle but no blue star.", [False, True]),
        ("The dog isn't there, the cat is.", [True, False]),
        ("neither dog nor cat", [True, True]),
        ("I see no sign of a dog", [True]),
        ("it is false that there is a dog", [True]),
        ("A dog and a cat do not exist", [True, True]),
        ("the dog is missing", [True]),
        ("there are 0 dogs, zero cats", [True, True]),
        ("I cannot see any dog", [True]),
        ("A man with no shirt holds a dog", [False]),
        ("The dog is not on a leash", [False]),
        ("Not only a dog but a cat", [False, False]),
        ("No doubt: a dog", [False]),
        ("a dog, a cat", [False, False]),
    ],
)
def test_denials_by_hand(text, expected):
    assert denied(text, [match.span() for match in THING.finditer(text)]) == expected


def test_nothing_denied_in_a_text_without_phrases():
    assert denied("no", []) == []
    assert denies_anything("not 3")
    assert not denies_anything("no parking", besides="NO PARKING")
