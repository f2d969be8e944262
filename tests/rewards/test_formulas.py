"""The reward math: what is said without its extra, and with it the ways of hedging that math-verify lets through."""

import sys
import threading

import pytest

from sightline.records import Completion
from sightline.rewards import formulas
from sightline.rewards.contract import RewardContext
from sightline.rewards.formulas import math_answer
from tests.effort import counted

MOST_STEPS = 5_000_000
"""Lines of Python for one answer, at most: a first formula takes a million (the caches of the library fill)."""


def judged(text, true, **options):
    return math_answer(Completion(text=text), RewardContext(truth={"answer": true}), **options)


@pytest.fixture
def without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    formulas._math_verify.cache_clear()
    formulas._parsed.cache_clear()
    yield
    formulas._math_verify.cache_clear()


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_the_error_names_it():
    with pytest.raises(ValueError, match=r"needs math-verify, .* pip install 'sightline\[math\]'"):
        judged("5", "5")


@pytest.mark.parametrize(
    ("formula", "power"),
    [
        ("5", 1),
        ("x^2+300x+1200", 2),
        ("x^2y^3", 6),
        ("x^{10}", 10),
        ("(9^{99})^{99}", 9801),
        ("2^{-3}", 3),
        ("x^n", 1),
        ("90^\\circ", 1),
        ("9^9^9", float("inf")),
        ("9^{9^9}", float("inf")),
        ("9^{9}^{9}", float("inf")),
        ("9**9**9", float("inf")),
        ("9^{9", 9),
        ("9^", 1),
    ],
)
def test_powers_are_measured_by_their_looks(formula, power):
    assert formulas._power(formula) == power


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (" $5$. ", "5"),
        ("$\\boxed{5}$", "5"),
        ("\\boxed{$5$}", "5"),
        ("\\[ x \\]", "x"),
        ("\\(5\\)", "5"),
        ("$$5$$", "5"),
        ("$5$ or $6$", "$5$ or $6$"),
        ("\\boxed{5} or \\boxed{6}", "\\boxed{5} or \\boxed{6}"),
        ("$", "$"),
        ("", ""),
    ],
)
def test_wrappers_are_taken_off_only_in_pairs(text, bare):
    assert formulas._bare(text) == bare


@pytest.mark.parametrize(
    ("true", "text"),
    [
        ("5", "5"),
        ("5", "$5$."),
        ("5", "\\boxed{5}"),
        ("5", "10/2"),
        ("5", "x = 5"),
        ("x=5", "5"),
        ("1000", "1,000"),
        ("\\frac{1}{2}", "0.5"),
        ("\\frac12", "\\frac{2}{4}"),
        ("2\\sqrt{3}", "\\sqrt{12}"),
        ("x^2+1", "1+x^2"),
        ("90^\\circ", "90"),
        ("3", "\\log_{10} 1000"),
        ("1 < x < 2", "(1,2)"),
        ("$\\{1,2\\}$", "\\{2,1\\}"),
    ],
)
def test_equal_formulas_are_equal(true, text):
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    assert judged(text, true) == 1


@pytest.mark.parametrize(
    ("true", "text"),
    [
        ("5", "6"),
        ("5", ""),
        ("5", "7 or 5"),
        ("5", "7 = 5"),
        ("5", "x = 7 = 5"),
        ("x=5", "7=5"),
        ("5", "5, 6"),
        ("5", "5; 6"),
        ("5", "6 \\cup 5"),
        ("5", "x=5 \\lor x=6"),
        ("5", "5 \\pm 0"),
        ("5", "5_6"),
        ("5", "\\boxed{6}\\boxed{5}"),
        ("5", "$5$ or $6$"),
        ("5", "the answer is 5"),
        ("5", "\uff15"),
        ("5", "\u0665"),
        ("5", "nan"),
        ("5", "\\infty"),
        ("(1,2)", "1 < x < 2"),
        ("5", "9^9^9^9"),
        ("5", "99999999!"),
        ("5", "1" + "0" * 400),
        ("5", "{" * 5_000 + "5" + "}" * 5_000),
        ("5", "(" * 5_000),
        ("5", "x" * 20_000),
        ("5", "$" * 20_000),
        ("5", "\\" * 20_000),
        ("5", "^" * 300),
    ],
    ids=lambda value: value[:20],
)
def test_hedges_and_monsters_are_worth_nothing_and_cost_few_steps(true, text):
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    judged("1+1", true)  # the first formula of a process is slow
    value, steps = counted(lambda: judged(text, true))
    assert value == 0
    assert steps < MOST_STEPS


@pytest.mark.parametrize(
    "text",
    [r"\frac{1}{2}\mathrm{or 3}", r"\text{not} \frac{1}{2}", r"\frac{1}{2} \text{ or } 3", r"\frac{1}{2}\text{=3}"],
)
def test_prose_inside_a_formula_is_no_formula(text):
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    assert judged(text, r"\frac{1}{2}") == 0
    assert judged(r"5\text{ cm}", "5") == 1


def test_math_works_in_a_thread():
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    found = []
    thread = threading.Thread(target=lambda: found.append(judged("2+3", "5")))
    thread.start()
    thread.join()
    assert found == [1]


def test_the_truth_must_be_a_formula():
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    assert math_answer(Completion(text="5"), RewardContext(truth={})) is None
    with pytest.raises(ValueError, match="is no formula"):
        judged("5", "$ $")


def test_the_span_may_be_the_box():
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    assert judged("We add and get \\boxed{\\frac{10}{2}}.", "5", span="boxed") == 1
    assert judged("We add and get 5.", "5", span="boxed") == 0
