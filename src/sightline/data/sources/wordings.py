"""How an object is asked for: the questions of Vision-R1-Data for Griffon, and what they become for Qwen2.5-VL.

Zhan et al. 2025 (arXiv 2503.18013), supplement, table 8. Griffon is asked for boxes in its own notation, Qwen for JSON.
"""

from collections.abc import Mapping

QWEN_ENDING = "in the image and output the coordinates in JSON format."
QWEN_DETECT = (
    "Locate every item from the category list in the image and output the coordinates in JSON format."
    " The category set includes {categories}."
)
GRIFFON_DETECT = (
    "Examine the image for any objects from the category set. Report the coordinates of each detected object."
    " The category set includes {categories}."
)
DETECT: Mapping[str, str] = {"qwen": QWEN_DETECT, "griffon": GRIFFON_DETECT}
"""Questions for all objects of some categories, by the name of the wording."""

# What surrounds the words that were asked for in each of Griffon's questions.
_DETECT = GRIFFON_DETECT.partition("{categories}")[0]
_GROUND = ("Locate the exact position of ", " in the picture, if you can.")
_REFER = ("Can you point out ", " in the image and provide the coordinates of its location?")


def refer(expression: str) -> str:
    """Qwen's question for what an expression names."""
    return f"Locate every {expression} {QWEN_ENDING}"


def from_griffon(words: str) -> tuple[str, str] | None:
    """The task of one of Griffon's questions and Qwen's question in its place; None for any other words."""
    if words.startswith(_DETECT):
        return "detect", QWEN_DETECT.partition("{categories}")[0] + words.removeprefix(_DETECT)
    for task, (before, after) in (("ground", _GROUND), ("refer", _REFER)):
        if words.startswith(before) and words.endswith(after):
            return task, refer(words.removeprefix(before).removesuffix(after).strip())
    return None
