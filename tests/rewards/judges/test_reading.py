"""What a judge said: tables of what counts as a verdict, and of what never does."""

import pytest

from sightline.rewards.ask import Reply
from sightline.rewards.judges.reading import (
    MAX_CLAIMS,
    Reading,
    claim_list,
    last_score,
    rating,
    read_reply,
    verdict,
    yes_or_no,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: 4\nIt is mostly right.", 4),
        ("It is mostly right.\n\nrating: 4", 4),
        ("**Rating:** 4", 4),
        ("**Rating: 4/5**", 4),
        ("## Rating : [4] out of 5.", 4),
        ("> Rating: 1.", 1),
        ("Rating: 4.0", 4),
        ("Rating: 4\nRating: 4", 4),
    ],
)
def test_a_rating_in_the_form_that_was_asked_for_is_read(text: str, value: float):
    assert rating(1, 5)(text) == Reading(value=value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("4", "no verdict"),
        ("The rating is 4.", "no verdict"),
        ("Rating: four", "no verdict"),
        ("Rating: 4, or 5", "no verdict"),
        ("Rating: >4", "no verdict"),
        ("Rating: 4 because Rating: 5", "no verdict"),
        ("My rating: 4", "no verdict"),
        ("Rating:\n4", "no verdict"),
        ("Rating: nan", "no verdict"),
        ("Rating: 4\nBut the answer asks for this line:\nRating: 5", "several verdicts"),
        ("Rating: 4/5\nRating: 4/10", "several verdicts"),
        ("Rating: 0", "off the scale"),
        ("Rating: 6", "off the scale"),
        ("Rating: -4", "off the scale"),
        ("Rating: −4", "off the scale"),
        ("Rating: 4.5", "off the scale"),
        ("Rating: 8/10", "off the scale"),
        ("Rating: " + "9" * 5000, "no verdict"),
    ],
)
def test_nothing_else_is_a_rating(text: str, problem: str):
    assert rating(1, 5)(text) == Reading(problem=problem)


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("It names a cat.\nThere is none.\nScore: 3", Reading(value=3)),
        ("**Score: 10/10**", Reading(value=10)),
        ("Score: 3\nBecause there is no cat.", Reading(problem="no verdict")),
        ("Score: 3\nOn second thought:\nScore: 4", Reading(problem="several verdicts")),
        ("Score: 11", Reading(problem="off the scale")),
    ],
)
def test_a_score_counts_in_the_last_line_alone(text: str, reading: Reading):
    assert last_score(0, 10)(text) == reading


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("The second invents a star.\nVerdict: first", Reading(value=1)),
        ("**Verdict: SECOND**.", Reading(value=-1)),
        ("Verdict: [tie]", Reading(value=0)),
        ("verdict: tie\n\n", Reading(value=0)),
        ("Verdict: first\nsince it is shorter", Reading(problem="no verdict")),
        ("Verdict: first\nVerdict: second", Reading(problem="several verdicts")),
        ("Verdict: first or second", Reading(problem="no verdict")),
        ("first", Reading(problem="no verdict")),
        ("  \n ", Reading(problem="empty")),
    ],
)
def test_a_verdict_counts_in_the_last_line_alone(text: str, reading: Reading):
    assert verdict(text) == reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", 1), ("Yes.", 1), ("**No**", 0), ("No, there is none.", 0), ("yes\nno", 1), ("'no'", 0),
        ("yes or no", None), ("Yes/No", None), ("Yes, no doubt", None), ("maybe", None), ("not at all", None),
        ("I think yes", None), ("", None), ("yesterday", None),
    ],
)  # fmt: skip
def test_yes_or_no_begins_the_reply_and_leaves_nothing_open(text: str, value: float | None):
    assert yes_or_no(text).value == value
    assert (yes_or_no(text).problem is None) == (value is not None)


def test_claims_are_lines_behind_a_mark():
    assert claim_list("- A cat.\n- A dog.\n- A cat.").claims == ("A cat.", "A dog.")
    assert claim_list("Here they are:\n 1. A cat.\n2) A dog.\n* A bird. ").claims == ("A cat.", "A dog.", "A bird.")
    assert claim_list("none") == Reading()
    assert claim_list("- None.") == Reading()
    assert claim_list("A cat and a dog.") == Reading(problem="no verdict")
    assert claim_list("") == Reading(problem="empty")
    assert claim_list("\n".join(f"- {n}" for n in range(MAX_CLAIMS + 1))) == Reading(problem="too many claims")


@pytest.mark.parametrize(
    ("reply", "reading"),
    [
        (Reply(text="Rating: 4"), Reading(value=4)),
        (Reply(text="<think>Rating: 1\nno</think>\nRating: 4"), Reading(value=4)),
        (Reply(text="<think>Rating: 4"), Reading(problem="empty")),
        (Reply(text="Rating: 4", finished=False), Reading(problem="cut")),  # it may have begun to say 4.5
        (Reply(text="Rating: 4\nbecause", finished=False), Reading(value=4)),
        (Reply(text="", finished=False), Reading(problem="cut")),
        (Reply(text=None), Reading(problem="empty")),
        (Reply(problem="timed out"), Reading(problem="failed")),
        (Reply(text="Rating: 4", refused=True), Reading(problem="refused")),
        (Reply(text=None, refused=True), Reading(problem="refused")),
        (Reply(text="I can't help with that."), Reading(problem="refused")),
        (Reply(text="I’m sorry, but I can’t assist with rating people."), Reading(problem="refused")),
        (Reply(text="As a language model I am not able to see pictures."), Reading(problem="refused")),
        (Reply(text="Sorry, no."), Reading(problem="refused")),
        (Reply(text="I cannot see a star, so:\nRating: 2"), Reading(value=2)),  # a verdict is a verdict
        (Reply(text="The answer cannot be right."), Reading(problem="no verdict")),
    ],
)
def test_a_reply_is_a_verdict_or_a_reason_why_not(reply: Reply, reading: Reading):
    assert read_reply(reply, rating(1, 5)) == reading


@pytest.mark.parametrize("read", [rating(1, 5), last_score(0, 10), verdict, yes_or_no, claim_list])
@pytest.mark.parametrize(
    "text", ["Rating: " + "*" * 200_000, " " * 200_000 + "x", "- " + " " * 200_000, "\n" * 200_000]
)
def test_long_nonsense_is_read_in_no_time(read, text: str):
    assert read(text).value is None
