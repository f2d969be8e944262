"""VLM-R1's referring expressions (Shen et al. 2025, arXiv 2504.07615): RefCOCO, RefCOCO+, RefCOCOg, LISA-Grounding.

Reads both published forms: rows of image, problem, normal_caption, solution, and rows of image, conversations. The one
box that is referred to becomes the one object of the truth, with the expression as its label.
"""

from collections.abc import Iterator
from typing import Any

from sightline.data.sources.contract import Found, Outcome, Published
from sightline.data.sources.parts import PLACEHOLDER, question, text_of, true_object, value_of
from sightline.data.sources.tables import Row, converted
from sightline.data.sources.wordings import refer
from sightline.fields import expect, parse_json
from sightline.records import Prompt
from sightline.registry import did_you_mean

WORDINGS = ("qwen", "published")
_BEFORE_EXPRESSION = "describes:"
"""What comes before the expression in the published questions."""


def vlm_r1_rec(published: Published, /, *, wording: str = "qwen", suffix: str = "") -> Iterator[Found]:
    """Questions for the box of one expression, in Qwen's wording for JSON or as they are published."""
    if wording not in WORDINGS:
        raise ValueError(f"wording is {wording!r}{did_you_mean(wording, WORDINGS)}")

    def convert(row: Row, number: int) -> Outcome:
        problem, solution = _asked(row)
        words = problem.replace(PLACEHOLDER, "").strip()
        expect(words != "", "problem", "asks nothing", "write the question")
        label = text_of(row, "normal_caption") if row.get("normal_caption") else _expression(words)
        image = published.pictures.image(_only(value_of(row, "image")), "image")
        known = true_object(label, _box(solution), published.pictures.size(image, "image"), "solution")
        asked = refer(label) if wording == "qwen" else words
        prompt = Prompt(
            id=f"vlm_r1_rec-{number}",
            task="refer",
            messages=(question(asked, [image], suffix=suffix),),
            truth={"objects": [known], "label": known["label"], "num_instances": 1},
        )
        return Outcome(prompt=prompt)

    return converted(published.paths, convert, columns=("image",))


def _asked(row: Row) -> tuple[str, Any]:
    """The question and its answer, of either form."""
    turns = row.get("conversations")
    if turns is None:
        return text_of(row, "problem"), value_of(row, "solution")
    good = isinstance(turns, list) and len(turns) == 2 and all(isinstance(turn, dict) for turn in turns)
    cure = 'write [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]'
    expect(good, "conversations", "is not one question and its answer", cure)
    right = [turn.get("from") for turn in turns] in (["human", "gpt"], ["user", "assistant"])
    expect(right, "conversations", "is not from human and then from gpt", cure)
    return text_of(turns[0], "value"), value_of(turns[1], "value")


def _expression(words: str) -> str:
    """What is referred to: what follows the published beginning, else the whole question."""
    _, found, rest = words.partition(_BEFORE_EXPRESSION)
    return (rest.strip().removesuffix(".").strip() if found else "") or words


def _only(value: Any) -> Any:
    """The one picture, which may stand in a list."""
    if isinstance(value, list):
        expect(len(value) == 1, "image", f"has {len(value)} pictures", "a box refers to one picture")
        return value[0]
    return value


def _box(solution: Any) -> Any:
    """The four numbers of a solution: bare, in answer tags, in a fence, with or without `bbox_2d`."""
    if isinstance(solution, str):
        bare = solution.replace("<answer>", "").replace("</answer>", "").strip()
        solution = parse_json(bare.removeprefix("```json").removesuffix("```"), "solution")
    if isinstance(solution, list) and solution and isinstance(solution[0], list | dict):
        expect(len(solution) == 1, "solution", f"has {len(solution)} boxes", "refer to one box")
        solution = solution[0]
    return solution.get("bbox_2d") if isinstance(solution, dict) else solution
