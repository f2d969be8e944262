"""The held-out measure of a run: what greedy answers are worth by a measure that is never learned from.

Where the recipe names no such reward, a prompt's truth says which fits: the exact answer, the box asked for, F1 over
boxes, objects named against objects invented and missed. None of them is had by saying little or by saying much.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sightline.build.loading import Row
from sightline.build.run_judge import context_of, picture_of
from sightline.build.scorers import Scorer, open_scorers
from sightline.config import Recipe
from sightline.records import Completion, Prompt
from sightline.rewards.boxes import read_boxes
from sightline.rewards.contract import Score
from sightline.rewards.frames import mean_overlaps
from sightline.rewards.judging import make_judge
from sightline.rewards.pool import Call

BY_TASK = {
    "detect": "boxes",
    "ground": "boxes",
    "refer": "rec_iou",
    "count": "count",
    "exist": "yes_no",
    "describe": "hallucination",
    "read": "number",
    "refuse": "refusal",
    "geometry": "math",
}
"""What measures an answer to a prompt whose task has one of these names, where its truth allows it."""
NEEDS = {
    "boxes": ("objects",),
    "rec_iou": ("target", "objects"),
    "count": ("count",),
    "yes_no": ("exists",),
    "hallucination": ("vocabulary",),
    "choice": ("options",),
    "refusal": ("private", "should_refuse"),
    "number": ("number",),
    "math": ("answer",),
}
"""Fields of the truth, one of which each measure needs."""
BY_TRUTH = ("rec_iou", "count", "yes_no", "hallucination", "choice", "refusal", "boxes")
"""For prompts without such a task, the first of these whose (first) field is there; boxes come last, and only where
boxes are asked for, since the objects of a scene may stand beside any question."""
BOX_REWARDS = ("vision_r1", "map", "od_length", "visual_rft", "box_f1")
NUM_LOOKED_AT = 64
"""Rows whose answers say whether boxes are asked for."""
BOX_THRESHOLDS = [0.5, 0.6, 0.7, 0.8, 0.9]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the run's answers are written. Example: `Form(space="seen", span="whole", boxes=True)`."""

    space: str
    """Frame of their boxes."""
    span: str
    """What of an answer is read."""
    boxes: bool
    """Whether boxes are asked for, so far as rewards and answers show."""


def measure_for(prompt: Prompt, form: Form) -> dict[str, Any] | None:
    """The reward that measures answers to this prompt by its truth; None where nothing fits."""
    space, span = form.space, form.span
    name = None if prompt.task is None else BY_TASK.get(prompt.task)
    if name is None or not _has(prompt.truth, NEEDS[name]):
        known = [one for one in BY_TRUTH if _has(prompt.truth, NEEDS[one][:1])]
        name = next((one for one in known if one != "boxes" or form.boxes), None)
    match name:
        case None:
            return None
        case "boxes":
            return {"name": "box_f1", "options": {"threshold": BOX_THRESHOLDS, "space": space, "span": span}}
        case "rec_iou":
            return {"name": "rec_iou", "options": {"space": space, "span": span}}
        case "refusal":
            return {"name": "refusal"}
        case _:
            return {"name": name, "options": {"span": span}}


class HeldOut:
    """Measures answers by the rewards of `monitors.held_out`, or by what fits each prompt's truth."""

    def __init__(self, recipe: Recipe, rows: Sequence[Row], scorers: Mapping[str, Scorer]) -> None:
        """Of `rows` the prompts are measured; `scorers` are the models behind named rewards."""
        given = [entry.model_dump() for entry in recipe.monitors.held_out]
        self._max_pixels = recipe.data.max_image_pixels
        self._named = make_judge(given, max_image_pixels=self._max_pixels) if given else None
        self._readers = {group.prompt.id: inputs for group, inputs in rows}
        self._scorers, self._form = scorers, form_of(recipe, rows)
        self._by_truth: dict[str, Callable[[Call], Score | None]] = {}

    def knows(self, prompt: Prompt) -> bool:
        """Whether answers to this prompt can be measured; a truth of a form that no reward reads is none."""
        if self._named is not None:
            return True
        try:
            return bool(self([prompt], [(Completion(text=""),)]))
        except (ValueError, ImportError):
            return False

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[tuple[Completion, ...]]) -> list[float]:
        """The measure of every answer that has one."""
        said = {label: scorer(prompts, answers) for label, scorer in self._scorers.items()}
        found: list[float] = []
        for number, (prompt, group) in enumerate(zip(prompts, answers, strict=True)):
            inputs = self._readers[prompt.id]
            about, picture = context_of(prompt, inputs, progress=1.0), picture_of(prompt, inputs)
            for i, completion in enumerate(group):
                given = {label: scores[number][i] for label, scores in said.items()}
                call = Call(completion=completion, context=replace(about, given=given), picture=picture)
                score = self._score(prompt, call)
                found += [] if score is None else [score.value]
        return found

    def _score(self, prompt: Prompt, call: Call) -> Score | None:
        if self._named is not None:
            return self._named(call)
        entry = measure_for(prompt, self._form)
        if entry is None:
            return None
        if entry["name"] not in self._by_truth:
            self._by_truth[entry["name"]] = make_judge([entry], max_image_pixels=self._max_pixels)
        return self._by_truth[entry["name"]](call)


@contextmanager
def held_out_measure(recipe: Recipe, rows: Sequence[Row]) -> Iterator[HeldOut | None]:
    """The run's held-out measure, with the models behind it for as long as it needs them; None where it has none."""
    if recipe.monitors.held_out_prompts == 0 or recipe.monitors.action == "off" or recipe.objective.kind == "ranking":
        yield None
        return
    readers = {group.prompt.id: inputs for group, inputs in rows}
    with open_scorers(recipe.monitors.held_out, readers) as scorers:
        measure = HeldOut(recipe, rows, scorers)
        yield measure if any(measure.knows(group.prompt) for group, _ in rows) else None


def held_out_rows(recipe: Recipe, rows: Sequence[Row], measure: HeldOut) -> list[Row]:
    """The rows that are measured: those that can be, evenly over the file."""
    known = [row for row in rows if measure.knows(row[0].prompt)]
    num = min(len(known), recipe.monitors.held_out_prompts)
    return [known[i * len(known) // num] for i in range(num)]


def form_of(recipe: Recipe, rows: Sequence[Row]) -> Form:
    """The form in which the run's answers are written: as its rewards and data say, else as the family does."""
    options = [entry.options for entry in recipe.rewards]
    frames = [given["space"] for given in options if isinstance(given.get("space"), str)]
    spans = [given["span"] for given in options if isinstance(given.get("span"), str)]
    looked_at = rows[:NUM_LOOKED_AT]
    written = any(read_boxes(answer.text).boxes for group, _ in looked_at for answer in group.completions)
    rewarded = any(entry.name in BOX_REWARDS for entry in recipe.rewards)
    space = frames[0] if frames else "seen" if rewarded else _frame_of(looked_at)
    return Form(space=space, span=(spans or ["whole"])[0], boxes=rewarded or written)


def _frame_of(rows: Sequence[Row]) -> str:
    """The frame in which the data's own answers fit the truth best; without such answers the family's."""
    known = [
        (answer, context_of(group.prompt, inputs, progress=1.0))
        for group, inputs in rows
        if _has(group.prompt.truth, NEEDS["boxes"])
        for answer in group.completions
    ]
    overlaps = mean_overlaps(known) if known else {}
    best = max(overlaps, key=overlaps.__getitem__, default=None)
    if best is not None and overlaps[best] > 0:
        return best
    return rows[0][1].family.boxes or "seen"


def _has(truth: Mapping[str, Any], fields: Sequence[str]) -> bool:
    return any(truth.get(field) is not None for field in fields)
