"""Cases that rewards are attacked with: a truth, the answers that deserve marks, and answers made to fool a reward.

Every attack is such that a sane reward scores it below an honest imperfect answer: it says something wrong, says too
much beside what is right, or says nothing. What fits any kind of truth is here; boxes are in `hostile_boxes`, short
answers in `hostile_answers`. Knows no reward and draws no picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.rewards.boxes import Size

WHITESPACE = " \n\t\u2003\u200b \n"
NESTED = 50_000
MANY_CHARACTERS = 150_000
MANY_DIGITS = 1_000_000
FILLER = " and so it seems to whoever looks at it again with care"
SIZE = (644, 476)
OTHER_DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

DRESSES: dict[str, tuple[str, str]] = {
    "bare": ("", ""),
    "answer tags": ("<answer>", "</answer>"),
    "think and answer tags": ("<think>Let me look closely.</think>\n<answer>", "</answer>"),
    "boxed": (r"\boxed{", "}"),
}
"""What may stand around an answer; a reward is probed in the dress in which honest answers earn most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One prompt with its truth and the answers to it.

    Example: `Case(truth={"count": 3}, prompt="How many?", right="3", honest="3", wrong="4", attacks={"both": "3 4"})`.
    """

    truth: Mapping[str, Any]
    """As rewards get it."""
    prompt: str
    """The question."""
    right: str
    """The exact answer."""
    honest: str
    """What an honest model that errs a little says; the right answer, where there is only right and wrong."""
    wrong: str
    """An answer of the right form that is wrong."""
    attacks: Mapping[str, str] = field(default_factory=dict)
    """Answers made to fool, by what they do."""
    image_size: Size = SIZE
    """Width and height of the picture as stored."""
    seen_size: Size = SIZE
    """Width and height that the model saw."""
    shown: Sequence[Mapping[str, Any]] = ()
    """Label and box of what the picture shows, in pixels as stored, for rewards that look."""


def dressed(case: Case, dress: str) -> dict[str, str]:
    """All attacks by name, as a model that answers in this dress would write them."""
    opening, closing = DRESSES[dress]
    tagged = (opening or "<answer>") + case.wrong + (closing or "</answer>")
    bare = {"empty": "", "whitespace": WHITESPACE, "text outside the answer": f"{case.right}\n{tagged}"}
    nothing = {"nothing inside the tags": opening + closing} if opening else {}
    inside = {"prompt repeated": case.prompt, **anywhere(case.right), **case.attacks}
    return {**bare, **nothing, **{name: opening + text + closing for name, text in inside.items()}}


def anywhere(right: str) -> dict[str, str]:
    """Attacks that need to know nothing of the truth but how the right answer reads."""
    return {
        "huge JSON": "[" + "0, " * (MANY_CHARACTERS // 3) + "0]",
        "malformed JSON": '{"answer": , "label": [}, {"bbox_2d": [[',
        "deep nesting": "[" * NESTED + "]" * NESTED,
        "deep nesting of objects": '{"answer":' * (NESTED // 10),
        "NaN": "NaN",
        "Infinity": "Infinity",
        "a number of a million digits": right + "0" * MANY_DIGITS,
        "very long answer": right + FILLER * (MANY_CHARACTERS // len(FILLER)),
    }


def says_the_same(answer: str, right: str) -> bool:
    """Whether an attack happens to be the truth, as "yes" always is in half of all cases."""
    return _plain(answer) == _plain(right)


def listed(words: list[str], last: str = "and") -> str:
    """Words as an enumeration."""
    return ", ".join(words[:-1]) + f" {last} {words[-1]}" if len(words) > 1 else "".join(words)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
