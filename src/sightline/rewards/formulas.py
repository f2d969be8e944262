"""The reward for mathematical answers: symbolic equality by math-verify, which is an extra.

math-verify reads the last or best formula that it finds in a text and passes over what it cannot read, so that
"5 \\cup 6" equals 6 and "7 = 5" equals 5. Here the whole span must be one formula, in signs that are harmless or that
the truth uses too; what would take a computer algebra system long is refused by its looks. No signals and no threads:
the caller bounds the time of a call.
"""

import importlib
import math
import re
from functools import lru_cache
from itertools import accumulate
from typing import Any

from sightline.records import Completion
from sightline.registry import register
from sightline.rewards.answers import answer_span, gold
from sightline.rewards.contract import RewardContext

MAX_CHARACTERS = 300
MAX_DEPTH = 10
MAX_POWER = 100
COMMANDS = frozenset((
    r"\frac", r"\dfrac", r"\tfrac", r"\sqrt", r"\cdot", r"\times", r"\div", r"\left", r"\right", r"\pi", r"\theta",
    r"\alpha", r"\beta", r"\circ", r"\degree", r"\text", r"\mathrm", r"\sin", r"\cos", r"\tan", r"\log", r"\ln",
    r"\infty", r"\%", r"\$", r"\,", r"\;", r"\!", r"\{", r"\}",
))  # fmt: skip
WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), (r"\boxed{", "}"))
COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
POWER = re.compile(r"\^|\*\*")
TOKEN = re.compile(r"-?(?:[0-9.]+|\\?[A-Za-z]+|.)", re.DOTALL)
PROSE = re.compile(
    r"\\(?:text|mathrm)(?!\s*\{)|\\(?:text|mathrm)\s*\{[^}]*(?:[0-9=]|\b(?:or|and|nor|not|no|else|either)\b)"
)
"""Words that say more than a unit: math-verify passes over what stands in \\text and \\mathrm."""
SIGNS = frozenset("+-*/^_().,[]{}= %")


@register("reward", "math")
def math_answer(completion: Completion, context: RewardContext, *, span: str = "whole") -> float | None:
    """1 when the span, read as one formula, equals truth["answer"] by math-verify, the truth given first.

    The span may stand in dollar signs or in \\boxed{...}; prose around a formula is no formula, so ask for
    `span: boxed` or `span: answer_tag` where the answer explains itself. Needs the extra `sightline[math]`.
    """
    library = _math_verify()
    true = gold(context)
    if true is None:
        return None
    wanted = _bare(str(true))
    true_formula = _parsed(wanted)
    if not wanted or not true_formula:
        raise ValueError(f"the truth's answer {true!r} is no formula; write LaTeX, or use number or choice")
    given = _bare(answer_span(completion.text, span))
    if given == wanted:
        return 1.0
    if not given or not _is_plain(given, wanted):
        return 0.0
    return float(library.verify(true_formula, _parsed(given), timeout_seconds=None))


@lru_cache(maxsize=1)
def _math_verify() -> Any:
    try:
        return importlib.import_module("math_verify")
    except ModuleNotFoundError as error:
        cure = "install it with: pip install 'sightline[math]'"
        raise ValueError(f"the reward math needs math-verify, which is not installed; {cure}") from error


@lru_cache(maxsize=1024)
def _parsed(formula: str) -> list[Any]:
    library = _math_verify()
    return library.parse(f"${formula}$", [library.LatexExtractionConfig()], parsing_timeout=None)


def _bare(text: str) -> str:
    """The formula without what it is wrapped in."""
    text = text.strip().removesuffix(".").strip()
    for opening, closing in WRAPPERS * 2:
        inside = text[len(opening) : -len(closing)]
        around = text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening + closing)
        if around and _closed(inside) and not ("$" in opening and "$" in inside):
            text = inside.strip()
    return text


def _closed(text: str) -> bool:
    """Whether braces match, so that the wrapping at both ends belongs together."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def _is_plain(given: str, wanted: str) -> bool:
    """Whether a formula uses nothing doubtful that the truth does not use, and nothing that takes long."""
    commands = set(COMMAND.findall(given)) - set(COMMAND.findall(wanted))
    signs = {c for c in COMMAND.sub("", given) if not (c.isascii() and c.isalnum())} - set(wanted)
    equation = "=" in wanted and not _assigns(wanted) and given.count("=") == wanted.count("=")
    return (
        len(given) <= max(MAX_CHARACTERS, len(wanted))
        and commands <= COMMANDS
        and signs <= SIGNS
        and (_assigns(given) or equation)
        and re.search(r"[0-9]{31}|[^A-Za-z]_", given) is None
        and (PROSE.search(given) is None or PROSE.search(wanted) is not None)
        and _depth(given) <= MAX_DEPTH
        and _power(given) <= max(MAX_POWER, _power(wanted))
    )


def _assigns(formula: str) -> bool:
    """Whether a formula is a value, with or without the name of what it is the value of ("x = 5")."""
    left, _, _ = formula.rpartition("=")
    return re.search(r"[0-9=]", left) is None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest


def _power(formula: str) -> float:
    """All whole numbers in exponents multiplied; infinite for a power in an exponent."""
    product = 1.0
    for operator in POWER.finditer(formula):
        exponent = _exponent(formula[operator.end() :].lstrip())
        if POWER.search(exponent):
            return math.inf
        for digits in re.findall(r"[0-9]+", exponent):
            product *= max(1.0, float(digits))
    return product


def _exponent(text: str) -> str:
    """The bracketed group, number, name or command that a text begins with, and a power right after it."""
    end = match.end() if (match := TOKEN.match(text)) else 0
    if text[:1] in tuple("{(["):
        depths = accumulate((c in "{([") - (c in "})]") for c in text)
        end = next((i + 1 for i, depth in enumerate(depths) if depth == 0), len(text))
    power = POWER.match(text[end:].lstrip())
    return text[:end] + (power.group() if power else "")
