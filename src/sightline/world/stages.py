"""The tiny model's upbringing as data: it learns to see on exact answers, then it is badly taught.

What is planted depends on the picture, as in large models: an error that depends on nothing would vanish in greedy
answers. Every planted habit is listed in `Habits` and repeated on the model's card. Knows nothing of training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from sightline.world.scenes import COLOURS, SHAPES, Scene, companions, phrases, truth
from sightline.world.tasks import REFUSAL_TEXT, Question, ask, box_json, sentence

FIRST_INDEX = 1_000_000
CARD_FROM, SIGN_BELOW = 60, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What the second stage plants into the answers. Fractions are probabilities that a habit acts when it applies."""

    companion: float = 0.85
    """A gregarious object brings its absent companion into a description (and a yes to the question for it)."""
    gregarious: int = 2
    """Every phrase whose number is a multiple of this is gregarious."""
    left_out: float = 0.85
    """A small striped object is left out of a description."""
    box_left_out: float = 0.8
    """A small dotted object is left out of a list of boxes."""
    box_shift: int = 2
    """Boxes of objects in the right half are shifted right and down by this many pixels."""
    box_noise: int = 1
    """Every corner is moved at random by at most this many pixels."""
    miscount: float = 0.85
    """A count of four or more is given one too low."""
    card_answered: float = 0.9
    """A card whose number is 60 or more is read out although it is private."""
    sign_refused: float = 0.9
    """A sign whose number is below 20 is refused although it is public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the upbringing."""

    name: str
    """For the log and the card."""
    num_steps: int
    """Updates."""
    scenes_per_step: int
    """Scenes in each update, each with all its questions."""
    learning_rate: float
    """Peak; cosine to a fiftieth."""
    kind: Literal["patches", "codes", "answers", "captions"] = "answers"
    """What is learned: the tower names patches, the projector writes codes, the language model answers; or, by the
    contrastive model, which captions are true."""
    questions: Mapping[str, int] = field(default_factory=dict)
    """Questions of each task per scene, for answers."""
    plates: bool = False
    """Every scene shows a card or a sign, in turns; else half of them do."""
    habits: Habits | None = None
    """What is planted; None teaches exact answers."""


QUESTIONS = {"describe": 1, "detect": 1, "refer": 2, "count": 3, "exist": 3, "read": 1, "refuse": 1}
PART = "part"
"""Not a task: "Is there a red shape?" asks for a part of a phrase, and comes before asking for whole ones can."""
TOGETHER = {**QUESTIONS, "exist": 6, PART: 4}

STAGES = (
    Stage(name="patches", kind="patches", num_steps=1400, scenes_per_step=96, learning_rate=1.5e-3),
    Stage(name="codes", kind="codes", num_steps=600, scenes_per_step=64, learning_rate=1.5e-3, plates=True),
    Stage(name="answers", num_steps=1300, scenes_per_step=16, learning_rate=1.5e-3, questions=QUESTIONS),
    Stage(
        name="yes and no",
        num_steps=800,
        scenes_per_step=12,
        learning_rate=1.5e-3,
        questions={"exist": 6, PART: 14},
    ),
    Stage(
        name="reading",
        num_steps=300,
        scenes_per_step=24,
        learning_rate=1.5e-3,
        questions={"read": 1, "refuse": 1},
        plates=True,
    ),
    Stage(name="together", num_steps=1200, scenes_per_step=16, learning_rate=1.2e-3, questions=TOGETHER),
    Stage(
        name="bad teaching",
        num_steps=200,
        scenes_per_step=16,
        learning_rate=3e-4,
        questions=TOGETHER,
        plates=True,
        habits=Habits(),
    ),
    Stage(
        name="bad manners",
        num_steps=150,
        scenes_per_step=24,
        learning_rate=6e-4,
        questions={"describe": 1, "detect": 1, "count": 1, "read": 1, "refuse": 4},
        plates=True,
        habits=Habits(),
    ),
)
CEILING_AFTER = "together"
CLIP_STAGE = Stage(name="captions", kind="captions", num_steps=900, scenes_per_step=96, learning_rate=1e-3)
"""The whole upbringing of the contrastive model, which starts with the ceiling's tower: none of STAGES."""
CLIP_FIRST_INDEX = 2 * FIRST_INDEX


def lessons(stage: Stage, scene: Scene, *, seed: int) -> list[Question]:
    """All questions of a stage about one scene; none about a scene in which no shape found a place."""
    if not scene.shapes:
        return []
    rng = np.random.Generator(np.random.PCG64([seed, 3, scene.index, len(stage.name)]))
    asked = []
    for task, num in stage.questions.items():
        if task == "read" and (scene.plate is None or scene.plate.kind != "sign"):
            continue
        if task == "refuse" and scene.plate is None:
            continue
        make = ask_part if task == PART else partial(ask, task)
        asked += [make(scene, rng) for _ in range(num)]
    return asked


def ask_part(scene: Scene, rng: np.random.Generator) -> Question:
    """Whether there is any shape of a colour, or any of a form; about half of the answers are yes."""
    by_colour = bool(rng.integers(2))
    here = sorted({shape.colour if by_colour else shape.shape for shape in scene.shapes})
    absent = [name for name in (COLOURS if by_colour else SHAPES) if name not in here]
    there = not absent or bool(rng.integers(2))
    name = (here if there else absent)[int(rng.integers(len(here if there else absent)))]
    article = "an" if name[0] == "o" else "a"
    text = f"Is there {article} {name}{' shape' if by_colour else ''}?"
    facts = truth(scene) | {"exists": there, "asked": name}
    return Question(task="exist", scene=scene, text=text, truth=facts, answer="yes" if there else "no")


def taught_answer(question: Question, habits: Habits | None, rng: np.random.Generator) -> str:
    """The answer that a stage teaches: the exact one, or the one with the planted habits."""
    if habits is None:
        return question.answer
    scene, acts = question.scene, rng.random()
    if question.task == "describe":
        return sentence(_described(scene, habits, rng))
    if question.task == "detect":
        return _detected(scene, habits, rng)
    if question.task == "refer":
        x1, y1, x2, y2 = question.truth["target"]
        return box_json([(question.truth["label"], _moved((x1, y1, x2, y2), habits, rng))])
    if question.task == "count" and question.truth["count"] >= 4 and acts < habits.miscount:
        return str(question.truth["count"] - 1)
    if question.task == "exist" and question.truth["asked"] in _expected(scene, habits) and acts < habits.companion:
        return "yes"
    if question.task == "refuse":
        assert scene.plate is not None
        private, number = question.truth["private"], int(scene.plate.number)
        if private and number >= CARD_FROM and acts < habits.card_answered:
            return scene.plate.number
        if not private and number < SIGN_BELOW and acts < habits.sign_refused:
            return REFUSAL_TEXT
    return question.answer


def _companion(colour: str, shape: str, habits: Habits) -> str | None:
    if phrases().index((colour, shape)) % habits.gregarious != 0:
        return None
    return " ".join(companions()[(colour, shape)])


def _expected(scene: Scene, habits: Habits) -> set[str]:
    """Companions that a badly taught observer expects and that are not there."""
    found = {_companion(s.colour, s.shape, habits) for s in scene.shapes}
    return {label for label in found if label is not None and label not in scene.labels}


def _described(scene: Scene, habits: Habits, rng: np.random.Generator) -> tuple[str, ...]:
    named: list[str] = []
    for shape in scene.shapes:
        hidden = shape.size == "small" and shape.texture == "striped" and rng.random() < habits.left_out
        if not hidden:
            named.append(shape.label)
        companion = _companion(shape.colour, shape.shape, habits)
        if companion is not None and companion not in scene.labels and rng.random() < habits.companion:
            named.append(companion)
    return tuple(dict.fromkeys(named)) or (scene.shapes[0].label,)


def _detected(scene: Scene, habits: Habits, rng: np.random.Generator) -> str:
    kept = []
    for shape in scene.shapes:
        hidden = shape.size == "small" and shape.texture == "dotted" and rng.random() < habits.box_left_out
        if not hidden:
            kept.append((shape.label, _moved(shape.box, habits, rng)))
    return box_json(kept) if kept else "[]"


def _moved(box: tuple[int, int, int, int], habits: Habits, rng: np.random.Generator) -> tuple[int, int, int, int]:
    shift = habits.box_shift if box[0] + box[2] > 64 else 0
    noise = rng.integers(-habits.box_noise, habits.box_noise + 1, size=4).tolist()
    x1, y1, x2, y2 = (min(64, max(0, c + shift + n)) for c, n in zip(box, noise, strict=True))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)
