"""Rewards for short answers: tables of right and wrong answers, and answers made to fool them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.records import Completion
from sightline.rewards.answers import (
    answer_span,
    choice,
    count,
    edit_distance,
    number,
    only_number,
    point_in_box,
    text_distance,
    yes_no,
)
from sightline.rewards.contract import RewardContext
from sightline.world.tasks import make_question
from tests.effort import counted

MOST_STEPS = 1_000_000
"""Lines of Python for one answer of 20,000 characters, at most: fifty a character. Seconds: bench/reward_speed.py."""

HUGE = str(10**400)
LONG = [
    "1" * 20_000,
    "1," * 10_000,
    "111," * 5_000,
    "1.1" * 6_666,
    "1e5" * 6_666,
    "9e999 " * 3_333,
    "." * 20_000,
    "- " * 10_000,
    "(" * 20_000,
    "[" * 20_000,
    '{"a":' * 4_000,
    " " * 20_000,
    "A " * 10_000,
    "yes " * 5_000,
    "<answer>" * 2_500,
    "\\boxed{" * 2_500,
    "\u0663" * 20_000,
    "\ufdfa" * 20_000,
    "a\u0327\u0301" * 6_666,
    "\u0301\u0327" * 10_000,
    "x" * 10**6,
]


def judged(reward, text, truth, *, image_size=None, seen_size=None, **options):
    context = RewardContext(truth=truth, image_size=image_size, seen_size=seen_size)
    return reward(Completion(text=text), context, **options)


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        (" 3 \n", "whole", "3"),
        ("", "whole", ""),
        ("x" * 20_001, "whole", ""),
        ("<answer> 3 </answer>", "answer_tag", "3"),
        ("I count. <answer>3</answer>\n", "answer_tag", "3"),
        ("3", "answer_tag", ""),
        ("<answer></answer>", "answer_tag", ""),
        ("<answer>3</answer> or 4", "answer_tag", ""),
        ("<answer>3</answer><answer>4</answer>", "answer_tag", ""),
        ("<answer><answer>3</answer></answer>", "answer_tag", ""),
        ("</answer>3<answer>", "answer_tag", ""),
        ("<answer>3", "answer_tag", ""),
        ("<ANSWER>3</ANSWER>", "answer_tag", ""),
        ("so \\boxed{3}.", "boxed", "3"),
        ("\\boxed{\\frac{1}{2}}", "boxed", "\\frac{1}{2}"),
        ("\\boxed{3} or \\boxed{4}", "boxed", ""),
        ("\\boxed{\\boxed{3}}", "boxed", ""),
        ("\\boxed{3", "boxed", ""),
        ("3", "boxed", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_span_is_what_is_scored(text, span, expected):
    assert answer_span(text, span) == expected


def test_an_unknown_span_is_refused():
    with pytest.raises(ValueError, match=r"span is 'answer'; did you mean answer_tag\?"):
        judged(count, "3", {"count": 3}, span="answer")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 1),
        ("There are 3 shapes.", 1),
        ("3, so 3", 1),
        ("003", 1),
        ("4", 0),
        ("3 or 4", 0),
        ("1 2 3 4 5 6", 0),
        ("3.0", 0),
        ("-3", 0),
        ("three", 0),
        ("", 0),
        ("\u0663", 0),
        ("\uff13", 0),
        ("3 or \uff14", 0),
        ("3\u00b2", 0),
        ("3\u00bd", 0),
        ("3 \u2463", 0),
        ("NaN", 0),
        ("inf", 0),
        (HUGE, 0),
        ("[" * 5000 + "3" + "]" * 5000, 1),
    ],
    ids=lambda value: str(value)[:20],
)
def test_count_is_exact(text, value):
    assert judged(count, text, {"count": 3}) == value
    assert judged(count, text, {"answer": "3"}) == value


def test_count_gives_part_of_the_mark_by_distance_when_asked():
    credit = [judged(count, str(n), {"count": 4}, partial=0.5) for n in (4, 5, 3, 6, 0, 8, 999_999_999)]
    assert credit == [1, 0.375, 0.375, 0.25, 0, 0, 0]
    assert judged(count, "1", {"count": 0}, partial=0.5) == 0
    assert judged(count, "3 or 4", {"count": 4}, partial=0.5) == 0
    with pytest.raises(ValueError, match="0 to below 1"):
        judged(count, "3", {"count": 3}, partial=1.0)


@pytest.mark.parametrize("true", [True, -1, 2.5, "many", [3]], ids=str)
def test_a_count_that_is_none_is_the_fault_of_the_truth(true):
    with pytest.raises(ValueError, match="give a whole number"):
        judged(count, "3", {"count": true})


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", 1), ("Yes.", 1), ("no", 0), ("yes or no", 0), ("yes no yes", 0), ("", 0), ("true", 0), ("\uff59es", 0)],
)
def test_yes_no_wants_one_verdict(text, value):
    assert judged(yes_no, text, {"exists": True, "asked": "red circle"}) == value
    assert judged(yes_no, text, {"answer": "Yes"}) == value
    assert judged(yes_no, text, {"answer": True}) == value


def test_no_is_an_answer_and_an_empty_one_is_not():
    assert [judged(yes_no, text, {"exists": False}) for text in ("no", "No, there is none.", "yes", "")] == [1, 1, 0, 0]
    with pytest.raises(ValueError, match="give true, false, yes or no"):
        judged(yes_no, "yes", {"answer": "maybe"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("B", 1),
        ("b", 1),
        ("(b).", 1),
        ("**B**", 1),
        ("Answer: B", 1),
        ("B) two dogs", 1),
        ("I think B", 1),
        ("B, so B", 1),
        ("A", 0),
        ("A, B, C, D", 0),
        ("A/B", 0),
        ("ABCD", 0),
        ("A B", 0),
        ("A cat, so B", 0),
        ("Based on this", 0),
        ("two dogs", 0),
        ("B or \uff23", 0),
        ("B or \u24b8", 0),
        ("", 0),
        ("?", 0),
        ("abcdefgh", 0),
    ],
)
def test_choice_wants_exactly_one_letter(text, value):
    assert judged(choice, text, {"answer": "B"}) == value


def test_choice_knows_how_many_options_there_are():
    assert judged(choice, "B or E", {"answer": "B", "options": ["a", "b", "c"]}) == 1
    assert judged(choice, "B or E", {"answer": "B"}) == 0
    assert judged(choice, "B or E", {"answer": "B"}, num_options=3) == 1
    for true in ("F", "BC", "", 2):
        with pytest.raises(ValueError, match="give one letter of ABC"):
            judged(choice, "B", {"answer": true, "options": {"A": "x", "B": "y", "C": "z"}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        ("-42", -42),
        ("\u221242", -42),
        ("x=-42.", -42),
        ("It is 1,234.50 EUR", Fraction("1234.5")),
        ("1,234,567", 1234567),
        (".5", Fraction(1, 2)),
        ("1e-3", Fraction(1, 1000)),
        ("42%", 42),
        ("5 m\u00b2", 5),
        ("42 = 42.0", 42),
        ("5-3", None),
        ("3.5.2", None),
        ("1,2,3", None),
        ("1,0000", None),
        ("1_000", None),
        ("1 000", None),
        ("3,5", None),
        ("10**400", None),
        ("0x10", None),
        ("3/4", None),
        ("B12 and 5", None),
        ("5\u00b2", None),
        ("5\u00bd", None),
        ("\u0665", None),
        ("5 \u0665", None),
        ("NaN", None),
        ("inf", None),
        ("Infinity", None),
        ("1e9999", None),
        (HUGE, None),
        ("", None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_one_number_is_read_exactly(text, expected):
    assert only_number(text) == expected


def test_number_takes_a_tolerance_whose_edge_is_inside():
    values = [judged(number, t, {"answer": 0.3}, absolute=0.1) for t in ("0.2", "0.4", "0.1999999999999", "0.41")]
    assert values == [1, 1, 0, 0]
    assert [judged(number, t, {"number": "200"}, relative=0.05) for t in ("190", "210", "189.9")] == [1, 1, 0]
    assert [judged(number, t, {"number": "-200"}, relative=0.05, absolute=1) for t in ("-190", "190")] == [1, 0]
    assert judged(number, "41.99999999999999999999", {"number": 42}) == 0
    assert judged(number, "199 200 201", {"number": 200}, relative=0.5) == 0


def test_number_refuses_truths_and_tolerances_that_are_none():
    for true in ("none", "3 or 4", True, float("nan")):
        with pytest.raises(ValueError, match="give one finite number"):
            judged(number, "3", {"answer": true})
    for tolerance in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"absolute is .* tolerance from 0"):
            judged(number, "3", {"answer": 3}, absolute=tolerance)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("kitten", 1),
        (" kitten\n", 1),
        ("sitting", 0.5),
        ("Kitten", 5 / 6),
        ("kit", 0.5),
        ("kitten kitten", 0),
        ("kitten!", 5 / 6),
        ("", 0),
        ("zzzzzz", 0),
        ("zzzzzzzzzzzzzzzzzz", 0),
        ("abcdefghijklmnopqrstuvwxyz", 0),
    ],
)
def test_text_distance_by_hand(text, value):
    assert judged(text_distance, text, {"text": "kitten"}) == pytest.approx(value)


def test_text_distance_options():
    assert judged(text_distance, "KITTEN", {"answer": "kitten"}, ignore_case=True) == 1
    assert judged(text_distance, "a\n b", {"text": "a b"}) == 1
    assert judged(text_distance, "a\n b", {"text": "a b"}, ignore_space=False) == pytest.approx(2 / 3)
    assert judged(text_distance, "cafe\u0301", {"text": "caf\u00e9"}) == 1
    assert judged(text_distance, "\uff14\uff12", {"number": "42"}) == 0
    assert [judged(text_distance, t, {"text": "abcd"}, low=0.5, high=0.75) for t in ("a", "ab", "abc")] == [0, 0.5, 1]
    with pytest.raises(ValueError, match="leave such prompts out"):
        judged(text_distance, "", {"text": " "})


def table_distance(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


@given(first=st.text("abc", max_size=40), second=st.text("abc", max_size=40))
def test_edit_distance_is_that_of_the_table(first, second):
    assert edit_distance(first, second) == table_distance(first, second) == edit_distance(second, first)


def test_edit_distance_of_two_long_pages_takes_a_few_steps_a_letter():
    distance, steps = counted(lambda: edit_distance("ab" * 10_000, "ba" * 10_000))
    assert distance == 2
    assert steps < 10 * 20_000


REFERRED = {
    "target": [10, 20, 30, 40],
    "label": "red circle",
    "objects": [{"label": "red circle", "box": [0, 0, 9, 9]}],
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(20, 30)", 1),
        ("[20, 30]", 1),
        ("20,30", 1),
        ("20.5, 30.5", 1),
        ('{"point_2d": [20, 30], "label": "red circle"}', 1),
        ('[{"point_2d": [20, 30]}]', 1),
        ('{"action": "click", "coordinate": [20, 30]}', 1),
        ("(10, 20)", 1),
        ("(29.9, 39.9)", 1),
        ("(30, 30)", 0),
        ("(20, 40)", 0),
        ("(9.9, 30)", 0),
        ("(30, 20)", 0),
        ("", 0),
        ("20", 0),
        ("(20, 30), (25, 35)", 0),
        ("(20, 30, 40)", 0),
        ("[20, 30, 20, 30]", 0),
        ("100,200,300", 0),
        ("in the middle (20, 30)", 0),
        ('[{"point_2d": [20, 30]}, {"point_2d": [25, 35]}]', 0),
        ('{"point_2d": [20, 30], "point": [0, 0]}', 0),
        ('{"point_2d": [20, 30], "other": [[0, 0]]}', 0),
        ('{"point_2d": [20, 30], "point_2d": [0, 0]}', 0),
        ('{"point_2d": ["20", "30"]}', 0),
        ('{"point_2d": [20, NaN]}', 0),
        ('{"point_2d": [20, 1e999]}', 0),
        ('{"point_2d": {"x": 20, "y": 30}}', 0),
        ('{"point_2d": "(20, 30)"}', 0),
        ('{"bbox_2d": [10, 20, 30, 40]}', 0),
        ("[true, 30]", 0),
        ("(nan, nan)", 0),
        ("(inf, 30)", 0),
        (f"({HUGE}, 30)", 0),
        ("(1e999, 30)", 0),
        ("(\uff12\uff10, 30)", 0),
        ("[" * 5000 + "20, 30" + "]" * 5000, 0),
        ("null", 0),
    ],
    ids=lambda value: str(value)[:40],
)
def test_one_point_in_the_box_that_was_referred_to(text, value):
    assert judged(point_in_box, text, REFERRED) == value


@pytest.mark.parametrize(
    ("space", "text"),
    [("seen", "(20, 10)"), ("original", "(40, 30)"), ("thousand", "(100, 100)"), ("unit", "(.1, .1)")],
)
def test_points_in_every_space_meet_boxes_in_the_frame_of_the_truth(space, text):
    sizes = {"image_size": (400, 300), "seen_size": (200, 100)}
    text = text.replace(".1", "0.1")
    inside = {"objects": [{"label": "cat", "box": [39, 29, 41, 31]}]}
    outside = {"objects": [{"label": "cat", "box": [0, 0, 39, 300]}]}
    assert judged(point_in_box, text, inside, space=space, **sizes) == 1
    assert judged(point_in_box, text, outside, space=space, **sizes) == 0
    assert judged(point_in_box, text, {"target": [19, 9, 21, 11]}, space=space, **sizes) == 1
    assert judged(point_in_box, text, {"target": [0, 0, 19, 100]}, space=space, **sizes) == 0


def test_a_point_counts_in_any_object_of_the_label():
    truth = {"objects": [{"label": "cat", "box": [0, 0, 10, 10]}, {"label": "dog", "box": [20, 20, 30, 30]}]}
    sizes = {"image_size": (50, 50)}
    assert judged(point_in_box, "(5, 5)", truth, **sizes) == judged(point_in_box, "(25, 25)", truth, **sizes) == 1
    assert judged(point_in_box, "(15, 15)", truth, **sizes) == 0
    assert judged(point_in_box, "(5, 5)", truth | {"label": "dog"}, **sizes) == 0
    assert judged(point_in_box, "(5, 5)", truth | {"label": "cow"}, **sizes) is None


def test_point_in_box_says_what_it_misses():
    with pytest.raises(ValueError, match=r"space is 'uint'; did you mean unit\?"):
        judged(point_in_box, "(1, 1)", REFERRED, space="uint")
    with pytest.raises(ValueError, match=r"need the picture's size, which is unknown"):
        judged(point_in_box, "(1, 1)", REFERRED, space="unit")
    with pytest.raises(ValueError, match="give \\[x1, y1, x2, y2\\]"):
        judged(point_in_box, "(1, 1)", {"target": [1, 2]})


ALL = {
    count: {"count": 3},
    yes_no: {"exists": True},
    choice: {"answer": "B"},
    number: {"number": "42"},
    text_distance: {"text": "a b c" * 4_000},
    point_in_box: {"target": [0, 0, 10, 10]},
}


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.__name__)
def test_nothing_is_said_without_a_truth(reward):
    assert judged(reward, "3", {}) is None
    assert judged(reward, "3", {"other": 3}) is None


@pytest.mark.parametrize("span", ["whole", "answer_tag", "boxed"])
@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.__name__)
def test_long_answers_are_read_in_few_steps(reward, span):
    for text in LONG:
        for answer in (text, f"<answer>{text}</answer>"):
            value, steps = counted(lambda answer=answer: judged(reward, answer, ALL[reward], span=span))
            assert 0 <= value <= 1
            assert steps < MOST_STEPS, text[:20]


@given(text=st.text(max_size=60) | st.text('0123456789.,-+eE()[]{} "AByesno\u0663\u00b2', max_size=30))
def test_any_text_is_worth_0_to_1_and_nothing_is_worth_0(text):
    for reward, truth in ALL.items():
        assert 0 <= judged(reward, text, truth) <= 1
        assert judged(reward, text, truth, span="answer_tag") == 0 or "<answer>" in text
        assert judged(reward, "", truth) == judged(reward, " \n", truth) == 0


@given(true=st.integers(0, 999), guesses=st.lists(st.integers(0, 999), min_size=2, unique=True, max_size=8))
def test_several_numbers_are_no_answer(true, guesses):
    text = " ".join(map(str, guesses))
    assert judged(count, text, {"count": true}) == judged(number, text, {"number": true}) == 0


@pytest.mark.parametrize(
    ("task", "reward"), [("count", count), ("exist", yes_no), ("read", number), ("read", text_distance)]
)
def test_the_exact_answers_of_the_world_get_full_marks(task, reward):
    for index in range(20):
        question = make_question(task, "validation", index)
        assert judged(reward, question.answer, question.truth) == 1


def test_the_middle_of_the_box_referred_to_gets_full_marks():
    for index in range(20):
        truth = make_question("refer", "validation", index).truth
        x1, y1, x2, y2 = truth["target"]
        assert judged(point_in_box, f"({(x1 + x2) / 2}, {(y1 + y2) / 2})", truth) == 1


@pytest.mark.parametrize(
    "text",
    [
        "3 or four", "not 3", "one two three four 3", "3 or IV", "3 or V", "3 dozen", "3 and a half", "3 \u56db",
        "at least 3",
        "3 or more", "up to 3", "3+", "<3", "between 2 and 3", "3, no, four", "isn't 3", "3 three-quarters",
        "neither 3", "3%",
        "3 or f\u043eur", "several, 3", "3 or so", "more than 3", "3 or fourtwo", "3 wrong",
    ],
)  # fmt: skip
def test_a_count_that_names_two_or_takes_itself_back_is_none(text):
    expected = float(text == "3%")
    assert judged(count, text, {"count": 3}) == expected


@pytest.mark.parametrize("text", ["3", "There are 3 shapes.", "3 (three)", "**3**", "I count 3", "3 of them", "03"])
def test_a_count_that_stands_is_right(text):
    assert judged(count, text, {"count": 3}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "yes, nope", "yes, or not", "yes \uff4e\uff4f", "yes n0", "yes nein non", "Yes is wrong.", "yes and no",
        "yes?? maybe",
        "yes or nah", "yes n\u043e", "yes n\u200bo", "not yes", "yes isn't right", "yes \u5426", "both: yes",
        "yes unless",
    ],
)  # fmt: skip
def test_a_verdict_that_says_both_is_none(text):
    assert judged(yes_no, text, {"exists": True}) == 0
    assert judged(yes_no, text, {"exists": False}) == 0


@pytest.mark.parametrize("text", ["no", "No, there is not.", "No, there isn't a red circle.", "**No**"])
def test_a_no_may_say_what_it_denies(text):
    assert judged(yes_no, text, {"exists": False}) == 1


ANIMALS = {"answer": "B", "options": ["cat", "dog", "dark dog", "cow"]}


@pytest.mark.parametrize(
    "text",
    [
        "a, B, c, d", "B, or a cat or cow", "not B", "B or \u0410", "B cat", "A1 B C2 D3", "Aa B Cc Dd", "_A_ B",
        "B \u24b6",
        "B \U0001f130", "B \U0001f1e6", "B is wrong", "B, b, a, c", "B isn't it", "B (c)", "B dark dog", "B or D",
        "B | C",
        "\u0412 A", "B. The cat!", "neither B",
    ],
)  # fmt: skip
def test_a_choice_that_names_two_or_takes_itself_back_is_none(text):
    assert judged(choice, text, ANIMALS) == 0


@pytest.mark.parametrize(
    "text", ["B", "b", "(B)", "B. dog", "B: it is a dog", "The answer is B.", "**B**", "B, it's a dog"]
)
def test_a_choice_that_stands_is_right(text):
    assert judged(choice, text, ANIMALS) == 1


@pytest.mark.parametrize(
    "text",
    [
        "42 or forty-three",
        "42 or XLIII",
        "not 42",
        "42% or 42",
        "42 million",
        "at least 42",
        "42+",
        "42, wrong",
        "<42",
        "twice 42",
    ],
)
def test_a_number_that_names_two_or_takes_itself_back_is_none(text):
    assert judged(number, text, {"number": "42"}) == 0


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("No. 42", "42"),
        ("42 (forty-two)", "42"),
        ("42 km", "42"),
        ("under 5 million", "under 5 million"),
        ("No 7", "7"),
    ],
)
def test_a_number_that_stands_is_right(text, true):
    assert judged(number, text, {"number": true}) == 1
