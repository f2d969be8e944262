"""Claim by claim: who splits, what each reply does to the score, and answers that claim nothing."""

import re
from dataclasses import replace

import pytest

from sightline.records import Image, Pair, Reward
from sightline.rewards.contract import Score
from sightline.rewards.judges.claims import ByClaims, claims_of
from sightline.rewards.judges.reading import MAX_CLAIMS, Reading
from sightline.rewards.judges.templates import Template
from tests.rewards.judges.subjects import PNG, SAMPLING, judged, subject

ASK = Template(name="ask", text="Is there a {claim}?")
SPLIT = Template(name="split", text="List: {answer}")
SHAPES = re.compile(r"(?:red|blue) (?:circle|star)")
BY_PATTERN = ByClaims(source="judge", template=ASK, sampling=SAMPLING, split_sampling=SAMPLING, split=SHAPES)


def knows(*true: str):
    """A judge that says yes to these claims."""
    return lambda text: "yes" if any(claim in text for claim in true) else "no"


def reward(completion: int, value: float, **parts: float) -> Reward:
    named = {name.replace("_", " "): held for name, held in parts.items()}
    return Reward(completion=completion, value=value, parts=named, source="judge", aspect="overall")


def test_a_pattern_splits_and_every_claim_is_asked_with_the_picture():
    found, rounds = judged(BY_PATTERN, subject("A red circle and a blue star.", "A red circle."), knows("red circle"))
    assert rounds[0] == []
    assert [question.messages[0].content for question in rounds[1]] == [
        (Image(data=PNG), "Is there a red circle?"),
        (Image(data=PNG), "Is there a blue star?"),
        (Image(data=PNG), "Is there a red circle?"),
    ]
    assert found.signals == (
        reward(0, 0.5, red_circle=1.0, blue_star=0.0),
        reward(1, 1.0, red_circle=1.0),
        Pair(chosen=1, rejected=0, margin=0.5, source="judge", aspect="overall"),
    )
    assert found.scores[0] == Score(value=0.5, parts={"claims": 2.0, "rejected": 1.0})


def test_the_score_of_rlaif_v_is_minus_what_was_rejected():
    judge = replace(BY_PATTERN, score="rejected", pairs=False)
    found, _ = judged(judge, subject("blue star, red star, red circle", "red circle"), knows("red circle"))
    assert [signal.value for signal in found.signals if isinstance(signal, Reward)] == [-2, 0]


def test_saying_the_same_again_counts_once():
    found, rounds = judged(BY_PATTERN, subject("red circle " * 50 + "blue star"), knows("red circle"))
    assert len(rounds[1]) == 2
    assert found.scores == (Score(value=0.5, parts={"claims": 2.0, "rejected": 1.0}),)


def test_an_answer_that_claims_nothing_has_no_score_so_that_silence_does_not_win():
    judge = replace(BY_PATTERN, score="rejected")
    found, _ = judged(judge, subject("I see nothing.", "blue star"), knows())
    assert found.scores[0] is None
    assert found.left_out == ("no claims",)
    assert found.signals == (reward(1, -1, blue_star=0.0),)


def test_an_answer_of_which_a_claim_was_not_judged_has_no_score():
    def speak(text: str) -> str:
        return "well" if "star" in text else "yes"

    found, _ = judged(BY_PATTERN, subject("red circle, blue star", "red circle"), speak)
    assert [score is None for score in found.scores] == [True, False]
    assert found.left_out == ("incomplete",)


def test_the_judge_splits_without_seeing_the_picture():
    judge = replace(BY_PATTERN, split=SPLIT)

    def speak(text: str) -> str:
        if text.startswith("List: much"):
            return "- red circle\n- blue star"
        if text.startswith("List:"):
            return "none" if "nothing" in text else "I cannot help with that."
        return "yes"

    found, rounds = judged(judge, subject("much", "nothing", "refused"), speak)
    assert [question.messages[0].content for question in rounds[0]] == [
        ("List: much",), ("List: nothing",), ("List: refused",),
    ]  # fmt: skip
    assert len(rounds[1]) == 2
    assert found.left_out == ("no claims", "incomplete")
    assert found.signals == (reward(0, 1.0, red_circle=1.0, blue_star=1.0),)


@pytest.mark.parametrize(
    ("answer", "pattern", "claims"),
    [
        ("A cat. It sleeps! Does it?", None, ("A cat.", "It sleeps!", "Does it?")),
        ("no end", None, ("no end",)),
        ("  ", None, ()),
        ("It is 1.5 m high.", None, ("It is 1.5 m high.",)),
        ("a cat and a dog", r"an? (\w+)", ("cat", "dog")),
        ("a cat and a dog", r"\bcat|dog", ("cat", "dog")),
        ("a cat", r"x*", ()),
    ],
)
def test_rules_that_split(answer: str, pattern: str | None, claims: tuple[str, ...]):
    assert claims_of(answer, None if pattern is None else re.compile(pattern)).claims == claims


def test_an_answer_with_too_many_claims_is_no_score_and_costs_no_question():
    many = " ".join(f"Thing {number}." for number in range(MAX_CLAIMS + 1))
    assert claims_of(many, None) == Reading(problem="too many claims")
    found, rounds = judged(replace(BY_PATTERN, split=None), subject(many), knows())
    assert (rounds[1], found.left_out) == ([], ("incomplete",))
