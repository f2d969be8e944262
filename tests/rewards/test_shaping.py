"""Rewards for shape: format, tags, length, overlong, repetition."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.records import Completion
from sightline.rewards.contract import RewardContext
from sightline.rewards.shaping import TEMPLATES, format_match, length, overlong, repetition, think_answer
from tests.effort import counted

MOST_STEPS = 1_000_000
"""Lines of Python for one answer of 20,000 characters, at most: fifty a character. Seconds: bench/reward_speed.py."""

BOX = '{"bbox_2d": [0, 0, 10, 10], "label": "cat"}'
OTHER = '{"bbox_2d": [0, 0, 10, 20], "label": "cat"}'


def judged(reward, text, *, num_tokens=None, max_tokens=None, finish_reason=None, **options):
    tokens = None if num_tokens is None else tuple(range(num_tokens))
    completion = Completion(text=text, token_ids=tokens, finish_reason=finish_reason)
    return reward(completion, RewardContext(truth={}, max_tokens=max_tokens), **options)


RIGHT = {
    "json_boxes": ["[]", f"[{BOX}]", f"\n[{BOX}, {OTHER}] ", f"```json\n[{BOX}]\n```"],
    "answer_tag": ["<answer>3</answer>", " <answer>\nit is 3\n</answer>\n", "<answer>[]</answer>"],
    "number": ["3", "-3.5", "1,000", ".5", " 3 "],
    "yes_no": ["yes", "No.", "NO"],
    "choice": ["B", "(B)", "B.", "B)"],
}
WRONG = {
    "json_boxes": [
        "",
        "{}",
        "```json\n[]",
        f"[{BOX}, 7]",
        "42",
        f"Here: [{BOX}]",
        f"[{BOX}] done",
        "[" * 20_000,
        '[{"bbox_2d": [0, 0, NaN, 10]}]',
    ],
    "answer_tag": ["", "3", "<answer></answer>", "<answer> </answer>", "so <answer>3</answer>", "<answer>3</answer>!"],
    "number": ["", "three", "3 4", "3 cats", "\u0663", "3.", "nan", "inf", "1_000", "--3", "1e"],
    "yes_no": ["", "yes no", "yes, there is", "yess", "y"],
    "choice": ["", "b", "AB", "A B", "((B", "(B", "1", "B is right"],
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_match_from_end_to_end(template):
    assert [text for text in RIGHT[template] if judged(format_match, text, template=template) != 1] == []
    assert [text for text in WRONG[template] if judged(format_match, text, template=template) != 0] == []


def test_a_pattern_of_ones_own_takes_the_place_of_the_template():
    pattern = r"Objects: .*"
    texts = ("Objects: a\nb", " Objects: a ", "Objects:", "All Objects: a")
    assert [judged(format_match, text, pattern=pattern) for text in texts] == [1, 1, 0, 0]
    assert judged(format_match, "Objects: " + "a" * 100, pattern=pattern, max_characters=50) == 0
    assert judged(format_match, "", pattern=".*") == 0


def test_wrong_forms_are_named():
    with pytest.raises(ValueError, match=r"template is 'jsonboxes'; did you mean json_boxes\?"):
        judged(format_match, "[]", template="jsonboxes")
    with pytest.raises(ValueError, match=r"'\(' is no regular expression .* mend it"):
        judged(format_match, "[]", pattern="(")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>I see one.</think><answer>1</answer>", 1),
        (" <think>I see\none.</think>\n\n<answer>[]</answer>\n", 1),
        ("<think></think><answer>1</answer>", 0),
        ("<think> ... </think><answer>1</answer>", 0),
        ("<think>I see.</think><answer> </answer>", 0),
        ("<answer>1</answer>", 0),
        ("<think>I see.</think>", 0),
        ("<think>I see.</think> so <answer>1</answer>", 0),
        ("So <think>I see.</think><answer>1</answer>", 0),
        ("<think>I see.</think><answer>1</answer>!", 0),
        ("<answer>1</answer><think>I see.</think>", 0),
        ("<think>a<answer>1</answer>b</think>", 0),
        ("<think>a</think><answer>1</answer><answer>2</answer>", 0),
        ("<think>a<think>b</think></think><answer>1</answer>", 0),
        ("<think>a <answer> b</think> 1</answer>", 0),
        ("</think>a<think><answer>1</answer>", 0),
        ("", 0),
        ("<think>" * 3_000, 0),
        ("<think>" + "a" * 30_000 + "</think><answer>1</answer>", 0),
    ],
    ids=lambda value: str(value)[:40],
)
def test_think_answer_is_a_full_match_with_each_tag_once(text, value):
    assert judged(think_answer, text) == value


def test_length_counts_tokens_where_there_are_any_and_words_elsewhere():
    options = {"low": 4, "high": 8, "falloff": 4}
    by_tokens = [judged(length, "some words", num_tokens=n, **options) for n in (0, 2, 4, 8, 9, 10, 12, 100)]
    assert by_tokens == [0, 0.5, 1, 1, 0.75, 0.5, 0, 0]
    assert [judged(length, "word " * n, **options) for n in (4, 10, 12)] == [1, 0.5, 0]
    assert judged(length, "", num_tokens=5, **options) == 0


def test_length_without_a_falloff_has_edges():
    assert [judged(length, "a " * n, low=2, high=3, falloff=0) for n in (1, 2, 3, 4)] == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="give 0 < low <= high"):
        judged(length, "a", low=5, high=4)


@given(sizes=st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_length_falls_with_the_distance_to_the_range(sizes):
    first, second = (judged(length, "a", num_tokens=n, low=50, high=100) for n in sorted(sizes))
    assert all(0 <= value <= 1 for value in (first, second))
    if min(sizes) >= 100:
        assert first >= second


def test_overlong_is_that_of_dapo():
    values = [judged(overlong, "a", num_tokens=n, max_tokens=20, cache=4) for n in (0, 16, 17, 18, 20, 21, 99)]
    assert values == [0, 0, -0.25, -0.5, -1, -1, -1]
    paper = [judged(overlong, "a", num_tokens=n, max_tokens=20480, cache=4096) for n in (16384, 18432, 20480, 20481)]
    assert paper == [0, -0.5, -1, -1]
    assert judged(overlong, "a", num_tokens=18, max_tokens=20) == -0.5
    assert judged(overlong, "a", num_tokens=20, max_tokens=20, cache=0) == 0
    assert judged(overlong, "a", num_tokens=20, max_tokens=20, cache=0, finish_reason="length") == -1


def test_overlong_says_what_it_misses():
    with pytest.raises(ValueError, match="the limit in tokens is not known here"):
        judged(overlong, "a", num_tokens=3)
    with pytest.raises(ValueError, match="the tokens of the answer is not known here"):
        judged(overlong, "a", max_tokens=3)
    with pytest.raises(ValueError, match="give 0 to 20"):
        judged(overlong, "a", num_tokens=3, max_tokens=20, cache=21)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("one two", 0),
        ("one two three", 0),
        ("one two three four five", 0),
        ("a b c a b c", -1 / 4),
        ("ha ha ha ha ha ha", -3 / 4),
        ("Ha HA ha hA ha ha", -3 / 4),
        ("hahahahahahahahahahahahaha", 2 / 24 - 1),
        ("\u7ea2\u5706" * 20, 2 / 38 - 1),
        (f"[{BOX}]", 0),
        (f"[{BOX}, {OTHER}]", 0),
        (f"[{BOX}, {BOX}]", -1 / 2),
        (f"[{BOX}, {BOX}, {OTHER}, {BOX}]", -1 / 2),
        ("[]", 0),
    ],
    ids=lambda value: str(value)[:30],
)
def test_repetition_by_hand(text, value):
    assert judged(repetition, text) == pytest.approx(value)


def test_repetition_of_single_words_and_of_longer_runs():
    assert judged(repetition, "a b a", size=1) == pytest.approx(-1 / 3)
    assert judged(repetition, "a b a b", size=4) == 0
    with pytest.raises(ValueError, match="1 or more"):
        judged(repetition, "a", size=0)


LONG = ["ha " * 300_000, "a" * 10**6, "<answer>" * 100_000, "[" * 10**6, "1," * 10_000, "1.1" * 6_000, " " * 10**6]


@pytest.mark.parametrize("text", [*LONG, json.dumps([[]] * 6_000)], ids=lambda text: text[:8])
def test_long_answers_are_read_in_few_steps(text):
    for template in TEMPLATES:
        assert counted(lambda template=template: judged(format_match, text, template=template))[1] < MOST_STEPS
    for reward in (think_answer, length, repetition):
        assert counted(lambda reward=reward: judged(reward, text))[1] < MOST_STEPS


@given(text=st.text(max_size=100) | st.text("<>/thinkaswer \n.B(3[]", max_size=80))
def test_any_text_is_in_range(text):
    for template in TEMPLATES:
        assert judged(format_match, text, template=template) in (0, 1)
        assert judged(format_match, "", template=template) == 0
    assert judged(think_answer, text) in (0, 1)
    assert 0 <= judged(length, text) <= 1
    assert -1 < judged(repetition, text) <= 0
