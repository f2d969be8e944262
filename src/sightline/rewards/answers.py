"""Rewards for short answers: counts, yes or no, options, numbers, texts, points.

Each looks only at the answer span, compares it whole with the truth, and gives 0 for an empty span, for one that names
several answers in whatever signs or words (`one_answer`), and for digits that are none of 0 to 9. Each gives None when
the truth lacks what it needs. Knows nothing of boxes' labels and of models; formulas are in `formulas`, refusals and
descriptions in `safety`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sightline.fields import RecordError, parse_json
from sightline.records import Completion
from sightline.registry import did_you_mean, register
from sightline.rewards.boxes import MAX_ANSWER_CHARACTERS, SPACES, Box, Space, as_box, frame_size, true_boxes
from sightline.rewards.contract import RewardContext
from sightline.rewards.curriculum import differentiate
from sightline.rewards.one_answer import one_letter, one_number, one_verdict
from sightline.rewards.spoken import has_foreign_numbers
from sightline.rewards.text import whole_number, yes_or_no

SPANS = ("whole", "answer_tag", "boxed")
OPTION_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_DIGITS = 40
_REST = r"(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_SIGN = r"(?:(?<![\w.])[-+−])?"
NUMBER = re.compile(rf"{_SIGN}(?:(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]+){_REST}|\.[0-9]+)")
POINT = re.compile(rf"[(\[]?\s*({_SIGN}[0-9]+{_REST})\s*,\s*({_SIGN}[0-9]+{_REST})\s*[)\]]?\.?")
UNIT_POWER = re.compile(r"(?<=[A-Za-z])[²³]")
EDGES = " \t\r\n.,:;*()[]'\"`"


def answer_span(text: str, span: str = "whole") -> str:
    """The part of an answer that is scored, without space around it; "" when there is none.

    `whole`: all of it. `answer_tag`: what stands between <answer> and </answer>, which must occur once each, the
    second at the end. `boxed`: what stands in the only \\boxed{...}. Answers of more than 20,000 characters have none.
    """
    if span not in SPANS:
        raise ValueError(f"span is {span!r}{did_you_mean(str(span), SPANS)}")
    if len(text) > MAX_ANSWER_CHARACTERS:
        return ""
    if span == "boxed":
        return _boxed(text)
    text = text.strip()
    if span == "answer_tag":
        _, _, inside = text.partition("<answer>")
        tagged = inside.endswith("</answer>") and text.count("<answer>") == 1 == text.count("</answer>")
        text = inside.removesuffix("</answer>").strip() if tagged else ""
    return text


def gold(context: RewardContext, *names: str) -> Any:
    """The true answer under the first of these names that the truth has, else under "answer", else None."""
    return next((context.truth[name] for name in (*names, "answer") if context.truth.get(name) is not None), None)


@register("reward", "count")
def count(completion: Completion, context: RewardContext, *, span: str = "whole", partial: float = 0.0) -> float | None:
    """1 when the only whole number of the span is truth["count"] (or "answer"), in figures, and nothing takes it back.

    Another number in words or Roman numerals, a denial ("not 3"), a range ("at least 3") leave no answer.
    A wrong number n earns `partial` * max(0, 1 - |n - count| / count): at most `partial`, which stays below 1.
    """
    true = gold(context, "count")
    if true is None:
        return None
    number = whole_number(str(true)) if isinstance(true, int | str) and not isinstance(true, bool) else None
    if number is None:
        raise ValueError(f"the truth's count is {true!r}; give a whole number from 0")
    if not 0 <= partial < 1:
        raise ValueError(f"partial is {partial}; a wrong count may earn 0 to below 1")
    answer = answer_span(completion.text, span)
    given = None if has_foreign_numbers(answer) else whole_number(answer)
    if given is not None and not one_number(answer, given, single_letters=True):
        given = None
    if given is None or given == number:
        return float(given == number)
    return partial * max(0.0, 1 - abs(given - number) / number) if number else 0.0


@register("reward", "yes_no")
def yes_no(completion: Completion, context: RewardContext, *, span: str = "whole") -> float | None:
    """1 when the span says yes or no as truth["exists"] (or "answer": true, false, "yes", "no") does, and nothing else.

    Words of the other side ("nope", "not", "nein"), of doubt ("or", "maybe") or of another script leave no answer.
    """
    true = gold(context, "exists")
    if true is None:
        return None
    verdict = true if isinstance(true, bool) else yes_or_no(str(true))
    if verdict is None:
        raise ValueError(f"the truth's answer is {true!r}; give true, false, yes or no")
    return float(one_verdict(answer_span(completion.text, span)) is verdict)


@register("reward", "choice")
def choice(
    completion: Completion, context: RewardContext, *, span: str = "whole", num_options: int = 8
) -> float | None:
    """1 when the only option letter in the span is truth["answer"].

    Options are the first letters of the alphabet, as many as truth["options"] lists or else `num_options`. A letter
    counts when it stands alone as a capital, in whatever type, so "A cat, so B" names two; a small one makes an answer
    only when it is the whole span, and a second answer always ("a" before a word aside). So does the text of another
    option than the right one, where the truth lists them; a denied letter ("not B") is no answer.
    """
    true = gold(context)
    if true is None:
        return None
    options = context.truth.get("options")
    letters = OPTION_LETTERS[: len(options) if isinstance(options, list | dict) else num_options]
    if not isinstance(true, str) or len(true.strip()) != 1 or true.strip().upper() not in letters:
        raise ValueError(f"the truth's answer is {true!r}; give one letter of {letters}, and the options as a list")
    texts = _option_texts(options, letters)
    return float(one_letter(answer_span(completion.text, span), letters, texts) == true.strip().upper())


@register("reward", "number")
def number(
    completion: Completion,
    context: RewardContext,
    *,
    span: str = "whole",
    absolute: float = 0.0,
    relative: float = 0.0,
) -> float | None:
    """1 when the only number of the span is truth["number"] (or "answer"), within a tolerance, and stands.

    The tolerance is the larger of `absolute` and `relative` * |true number|, its edge included, computed exactly.
    Thousands may have commas; a percent sign and units are passed over on both sides. Another number in words or Roman
    numerals, a denial, a range or a multiple ("million") that the truth has not leave no answer.
    """
    true = gold(context, "number")
    if true is None:
        return None
    wanted = None if isinstance(true, bool) else only_number(str(true))
    if wanted is None:
        raise ValueError(f"the truth's number is {true!r}; give one finite number")
    for name, tolerance in (("absolute", absolute), ("relative", relative)):
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"{name} is {tolerance}; give a tolerance from 0")
    answer = answer_span(completion.text, span)
    given = only_number(answer)
    if given is not None and not one_number(answer, given, wanted=str(true)):
        return 0.0
    allowed = max(Fraction(str(absolute)), Fraction(str(relative)) * abs(wanted))
    return float(given is not None and abs(given - wanted) <= allowed)


@register("reward", "text_distance")
def text_distance(
    completion: Completion,
    context: RewardContext,
    *,
    span: str = "whole",
    ignore_case: bool = False,
    ignore_space: bool = True,
    low: float = 0.0,
    high: float = 1.0,
) -> float | None:
    """1 less the edit distance to truth["text"] (or "number", "answer") over the true text's length, at least 0.

    Dividing by the true length makes surplus text cost as much as missing text. `ignore_space` takes any run of
    space for one; accents are composed first. Full marks from `high` on and none below `low`.
    """
    true = gold(context, "text", "number")
    if true is None:
        return None
    wanted = _readable(str(true), ignore_case=ignore_case, ignore_space=ignore_space)
    if not wanted:
        raise ValueError("the truth's text is empty; leave such prompts out, or ask something else of them")
    given = _readable(answer_span(completion.text, span), ignore_case=ignore_case, ignore_space=ignore_space)
    if not given or len(given) >= 2 * len(wanted):
        return 0.0
    likeness = max(0.0, 1 - edit_distance(wanted, given) / len(wanted))
    return differentiate(likeness, low, high)


@register("reward", "point_in_box")
def point_in_box(
    completion: Completion, context: RewardContext, *, span: str = "whole", space: Space = "seen"
) -> float | None:
    """1 when the one point of the span lies in a true box; left and top edges are inside, right and bottom are not.

    The box is truth["target"] (frame that the model saw), else any of truth["objects"] (original pixels), of
    truth["label"] alone when that is given. A point is "(x, y)", "[x, y]", or JSON such as {"point_2d": [x, y]};
    `space` says in which frame it is: seen, original, thousand (0-1000) or unit (0-1).
    """
    if space not in SPACES:
        raise ValueError(f"space is {space!r}{did_you_mean(str(space), SPACES)}")
    boxes, frame = _boxes_to_hit(context.truth)
    if not boxes:
        return None
    point = _point(answer_span(completion.text, span))
    if point is None:
        return 0.0
    x, y = point if space == frame else _moved(point, space, frame, context)
    return float(any(x1 <= x < x2 and y1 <= y < y2 for x1, y1, x2, y2 in boxes))


def only_number(text: str) -> Fraction | None:
    """The one number of a text, exactly; several different ones, or one of more than 40 digits, are none."""
    text = UNIT_POWER.sub("", text)
    if has_foreign_numbers(text):
        return None
    numbers = {_fraction(found) for found in NUMBER.findall(text)}
    return numbers.pop() if len(numbers) == 1 else None


def edit_distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and substitutions from one text to the other.

    A column of the table is kept as the bits of two integers, its steps up and its steps down (Myers 1999; Hyyrö
    2003), so that two pages of 10,000 characters take a tenth of a second.
    """
    if not first or not second:
        return len(first) or len(second)
    places: dict[str, int] = {}
    for i, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << i
    every, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    rises, falls, distance = every, 0, len(first)
    for character in second:
        equal = places.get(character, 0)
        free = (((equal & rises) + rises) ^ rises) | equal | falls  # where the diagonal costs nothing
        across_up, across_down = falls | (every & ~(free | rises)), rises & free
        distance += bool(across_up & last) - bool(across_down & last)
        across_up, across_down = across_up << 1 | 1, across_down << 1
        rises, falls = every & (across_down | ~(free | across_up)), every & across_up & free
    return distance


def _boxed(text: str) -> str:
    _, found, inside = text.partition("\\boxed{")
    depth = 1 if found and "\\boxed" not in inside else 0
    for i, character in enumerate(inside if depth else ""):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return inside[:i].strip()
    return ""


def _option_texts(options: Any, letters: str) -> dict[str, str]:
    """What the options say, by letter."""
    if isinstance(options, list):
        return {letter: str(text) for letter, text in zip(letters, options, strict=False)}
    return {str(letter).upper(): str(text) for letter, text in options.items()} if isinstance(options, dict) else {}


def _fraction(number: str) -> Fraction | None:
    """The exact value, or None when it is too long or too large to be meant."""
    digits, _, exponent = number.lower().partition("e")
    if len(digits) > MAX_DIGITS or len(exponent.lstrip("+-0")) > 3:
        return None
    return Fraction(number.replace(",", "").replace("−", "-"))


def _readable(text: str, *, ignore_case: bool, ignore_space: bool) -> str:
    text = unicodedata.normalize("NFC", " ".join(text.split()) if ignore_space else text)
    return text.casefold() if ignore_case else text


def _boxes_to_hit(truth: Mapping[str, Any]) -> tuple[list[Box], Space]:
    """The boxes in one of which the point must lie, and their frame."""
    target, label = truth.get("target"), truth.get("label")
    if target is None:
        wanted = None if label is None else str(label).strip().lower()
        return [item.box for item in true_boxes(truth) or [] if wanted in (None, item.label)], "original"
    box = as_box(list(target) if isinstance(target, tuple) else target)
    if box is None:
        raise ValueError(f"the truth's target is {target!r}; give [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    return [box], "seen"


def _point(text: str) -> tuple[float, float] | None:
    """The point of a text that is nothing but one point."""
    if match := POINT.fullmatch(text):
        x, y = _fraction(match[1]), _fraction(match[2])
        return None if x is None or y is None or max(abs(x), abs(y)) > 1e6 else (float(x), float(y))
    try:
        item = parse_json(text, "answer")
    except RecordError:
        return None
    if isinstance(item, list) and len(item) == 1:
        item = item[0]
    if not isinstance(item, dict):
        return None
    places = [key for key in ("point_2d", "point", "coordinate") if key in item]
    others = (value for key, value in item.items() if key not in places)
    if len(places) != 1 or not all(isinstance(value, str) for value in others):
        return None
    match = POINT.fullmatch(json.dumps(item[places[0]]))
    return _point(match.group()) if match else None


def _moved(point: tuple[float, float], space: Space, frame: Space, context: RewardContext) -> tuple[float, float]:
    """The point in another frame."""
    sizes = {"image_size": context.image_size, "seen_size": context.seen_size}
    (width, height), (new_width, new_height) = frame_size(space, **sizes), frame_size(frame, **sizes)
    return point[0] * new_width / width, point[1] * new_height / height
