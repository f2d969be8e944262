"""Cases about scenes: boxes of all objects, the box or the point of one, and descriptions.

Scenes are labels and boxes alone, four to seven objects with labels of their own. The honest answer drops one object
and shrinks the boxes of the others to an IoU of 0.7.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.rewards.boxes import Size, Space
from sightline.rewards.hostile import MANY_CHARACTERS, OTHER_DIGITS, Case, listed

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
COLUMNS, ROWS = 4, 3
IOU = 0.7
NUM_RANDOM = 100
_THINGS = ("dragon", "crimson disc", "sailing boat", "house", "purple tree", "horse", "wheel", "lamp")
FORM = '[{"bbox_2d": [x1, y1, x2, y2], "label": "..."}]'

Corners = tuple[float, float, float, float]
Item = tuple[str, Corners]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Objects in the frame that the model saw. Example: `Scene(objects=[("red star", (4, 6, 24, 26))], ...)`."""

    objects: list[Item]
    """Label and box of each."""
    seen_size: Size
    """Width and height of that frame."""
    scale: float
    """Size of the picture as stored over that of the frame."""
    space: Space
    """Frame in which answers are written."""

    @property
    def image_size(self) -> Size:
        """Width and height as stored."""
        return round(self.seen_size[0] * self.scale), round(self.seen_size[1] * self.scale)

    @property
    def truth(self) -> list[dict[str, Any]]:
        """The objects as a truth has them, in pixels of the picture as stored."""
        return [{"label": label, "box": [corner * self.scale for corner in box]} for label, box in self.objects]


def boxes(draw: random.Random, space: Space = "seen") -> Case:
    """All objects as a JSON list."""
    scene = _scene(draw, space)
    items = scene.objects
    labels = [label for label, _ in items]
    honest = [(label, _shrunk(box, draw)) for label, box in items]
    del honest[draw.randrange(len(honest))]
    every = [(label, box) for _, box in items for label in labels if (label, box) not in items]
    swapped = [(label, box) for label, (_, box) in zip([*labels[1:], labels[0]], items, strict=True)]
    attacks = {
        "format only": "[]",
        "every label swapped": _json(scene, swapped),
        "all options: each label at each box": _json(scene, items + every),
        "two labels at each box": _json(scene, items + swapped),
        "boxes of the whole picture": _json(scene, [(label, (0, 0, *scene.seen_size)) for label in labels]),
        "one box only": _json(scene, items[:1]),
        "boxes cut in halves": _json(scene, [half for item in items for half in _halves(item)]),
        "the honest boxes and one of nothing": _json(scene, [*honest, _of_nothing(scene)]),
        "the honest boxes and one of nothing, unsure": _unsure(scene, honest, _of_nothing(scene)),
        **_spoilt(draw, scene, items, honest),
    }
    prompt = f"Locate every {listed(labels, 'or')} and output the boxes as JSON: {FORM}"
    return _case(scene, {"objects": scene.truth}, prompt, (items, honest, swapped), attacks)


def target(draw: random.Random, space: Space = "seen") -> Case:
    """The one object that a phrase refers to, as a JSON list of one box; its label is given, so only the box counts."""
    scene = _scene(draw, space)
    (label, box), *others = scene.objects
    honest = [(label, _shrunk(box, draw))]
    width, height = scene.seen_size
    grid = [(label, (x, y, x + width // 10, y + height // 10)) for x, y in _grid(scene, 10)]
    attacks = {
        "format only": "[]",
        "another object": _json(scene, [(label, others[0][1])]),
        "all options: each object": _json(scene, scene.objects),
        "box of the whole picture": _json(scene, [(label, (0, 0, width, height))]),
        "a grid of boxes": _json(scene, grid),
        **_spoilt(draw, scene, [(label, box)], honest),
    }
    truth = {"target": list(box), "label": label}
    prompt = f"Locate the {label} and output its box as JSON: {FORM}"
    return _case(scene, truth, prompt, ([(label, box)], honest, [(label, others[0][1])]), attacks)


def point(draw: random.Random, space: Space = "seen") -> Case:
    """A point in the one object that a phrase refers to: in it or not, so an honest point is a right one."""
    scene = _scene(draw, space)
    (label, box), *others = scene.objects
    width, height = scene.seen_size
    right, other = _point(scene, box, 0.5), _point(scene, others[0][1], 0.5)
    middle = (width / 2, height / 2)
    inside = box[0] <= middle[0] < box[2] and box[1] <= middle[1] < box[3]
    attacks = {
        "format only": "(, )",
        "another object": other,
        "all options: each object": " ".join(_point(scene, corners, 0.5) for _, corners in scene.objects),
        "the middle of the picture": right if inside else _written_point(scene, middle),
        "a grid of points": " ".join(_written_point(scene, corner) for corner in _grid(scene, 10)),
        "box of the whole picture": f"[0, 0, {width}, {height}]",
        "box in place of a point": json.dumps(_placed(scene, box)),
        "NaN": "(NaN, NaN)",
        "Infinity": "(1e999, 1e999)",
        "digits of other scripts": f"{right} {other.translate(OTHER_DIGITS)}",
    }
    return Case(
        truth={"target": list(box), "label": label},
        prompt=f"Point at the {label}: (x, y)",
        right=right,
        honest=_point(scene, box, draw.uniform(0.2, 0.8)),
        wrong=other,
        attacks=attacks,
        **_shown(scene),
    )


def describe(draw: random.Random, space: Space = "seen") -> Case:
    """The objects named in a sentence; the honest one leaves one out."""
    scene = _scene(draw, space)
    vocabulary = {"colours": COLOURS, "shapes": SHAPES}
    return description(draw, [label for label, _ in scene.objects], vocabulary, **_shown(scene))


def description(draw: random.Random, labels: list[str], vocabulary: Mapping[str, Sequence[str]], **shown: Any) -> Case:
    """A case about objects of these labels, a colour and a shape of the vocabulary each; `shown` is for the picture."""
    colours, shapes = list(vocabulary["colours"]), list(vocabulary["shapes"])
    every = [f"{colour} {shape}" for colour in colours for shape in shapes]
    absent = draw.sample([label for label in every if label not in labels], len(labels))
    attacks = {
        "format only": "There is .",
        "every label swapped": _sentence(absent),
        "everything named": _sentence(every),
        "everything denied": f"There is no {listed(every, 'or')}.",
        "everything there denied": f"There is no {listed(labels, 'or')}.",
        "everything there denied one by one": f"There is {listed([f'no {label}' for label in labels])}.",
        "everything there said to be missing": f"{_sentence(labels)[len('There is ') : -1]} are not there.",
        "everything there named twice": _sentence(labels * 2),
        "everything there and as much besides": _sentence(labels + absent),
        "everything there and others the other way round": _sentence(labels + [_turned(label) for label in absent]),
        "everything there and others with hyphens": _sentence(labels + [label.replace(" ", "-") for label in absent]),
        "everything there and things of no kind": _sentence([*labels, *_THINGS]),
        "colours and shapes apart": f"There are {listed(colours)} things: {listed(shapes)}.",
        "one object only": _sentence(labels[:1]),
    }
    truth = {"objects": shown["shown"], "vocabulary": {"colours": colours, "shapes": shapes}}
    return Case(
        truth=truth,
        prompt=f"Describe the picture. Colours are {listed(colours)}, shapes {listed(shapes)}.",
        right=_sentence(labels),
        honest=_sentence(labels[1:]),
        wrong=_sentence(absent),
        attacks=attacks,
        **shown,
    )


def _scene(draw: random.Random, space: Space) -> Scene:
    width, height = 28 * draw.randint(16, 36), 28 * draw.randint(12, 30)
    num = draw.randint(4, 7)
    items: list[Item] = []
    for label, cell in zip(draw.sample(LABELS, num), draw.sample(range(COLUMNS * ROWS), num), strict=True):
        room = width // COLUMNS, height // ROWS
        wide, high = (draw.randint(side // 2, side * 9 // 10) for side in room)
        left = cell % COLUMNS * room[0] + draw.randint(0, room[0] - wide)
        top = cell // COLUMNS * room[1] + draw.randint(0, room[1] - high)
        items.append((label, (left, top, left + wide, top + high)))
    return Scene(objects=items, seen_size=(width, height), scale=draw.choice((0.75, 1, 1.5, 2)), space=space)


def _case(
    scene: Scene, truth: dict[str, Any], prompt: str, said: tuple[list[Item], ...], attacks: dict[str, str]
) -> Case:
    right, honest, wrong = (_json(scene, items) for items in said)
    return Case(truth=truth, prompt=prompt, right=right, honest=honest, wrong=wrong, attacks=attacks, **_shown(scene))


def _shown(scene: Scene) -> dict[str, Any]:
    return {"image_size": scene.image_size, "seen_size": scene.seen_size, "shown": scene.truth}


def _spoilt(draw: random.Random, scene: Scene, items: list[Item], honest: list[Item]) -> dict[str, str]:
    """What is right, with too much beside it or in a form that cannot be read; broken off, what is honest."""
    right = _json(scene, items)
    broken = [7, None, "box", {"box": [1, 2, 3, 4]}, {"bbox_2d": [9, 9, 1, 1], "label": "x"}] * 10
    no_numbers = [{"bbox_2d": [math.nan] * 4, "label": label} for label, _ in items]
    hidden = _json(scene, _random_items(draw, scene, 20)).translate(OTHER_DIGITS)
    endless = ", ".join(f'{{"bbox_2d": [-1e999, -1e999, 1e999, 1e999], "label": "{label}"}}' for label, _ in items)
    moved = [(label, _moved_a_little(box)) for label, box in items]
    huge = MANY_CHARACTERS // 40
    return {
        "every box twice": _json(scene, items * 2),
        "every box twice, one moved": _json(scene, items + moved),
        "every box eight times": _json(scene, items * 8),
        "a hundred random boxes added": _json(scene, items + _random_items(draw, scene, NUM_RANDOM)),
        "fifty broken items added": f"{right[:-1]}, {json.dumps(broken)[1:]}",
        "malformed JSON": _json(scene, honest)[: 40 * len(honest)],
        "huge JSON": _json(scene, items + _random_items(draw, scene, huge)),
        "NaN": json.dumps(no_numbers),
        "Infinity": f"[{endless}]",
        "huge coordinates": _json(scene, [(label, (x1, y1, x2 + 9e5, y2 + 9e5)) for label, (x1, y1, x2, y2) in items]),
        "digits of other scripts": f"{right[:-1]}, {hidden[1:]}",
        "right to left and of no width": f"\u202e{right}\u200b",
    }


def _halves(item: Item) -> list[Item]:
    """A box in two, so that each half has an IoU of about a half with what it was cut from."""
    label, (x1, y1, x2, y2) = item
    middle = (x1 + x2) // 2
    return [(label, (x1, y1, middle, y2)), (label, (middle, y1, x2, y2))]


def _of_nothing(scene: Scene) -> Item:
    """A small box in a corner of the picture."""
    width, height = scene.seen_size
    return scene.objects[0][0], (width - 3, height - 3, width, height)


def _unsure(scene: Scene, items: list[Item], other: Item) -> str:
    """Boxes, and another of confidence 0."""
    known, [more] = (json.loads(_json(scene, some)) for some in (items, [other]))
    return json.dumps([*known, more | {"confidence": 0}])


def _random_items(draw: random.Random, scene: Scene, num: int) -> list[Item]:
    width, height = scene.seen_size
    found: list[Item] = []
    for _ in range(num):
        left, top = draw.randrange(width - 8), draw.randrange(height - 8)
        box = (left, top, draw.randint(left + 8, width), draw.randint(top + 8, height))
        found.append((draw.choice(scene.objects)[0], box))
    return found


def _shrunk(box: Corners, draw: random.Random) -> Corners:
    """A part of the box with the honest IoU, which is then the GIoU too; rounded up to whole pixels."""
    x1, y1, x2, y2 = box
    wide, high = math.ceil(IOU * (x2 - x1)), math.ceil(IOU * (y2 - y1))
    return draw.choice(
        ((x1, y1, x1 + wide, y2), (x2 - wide, y1, x2, y2), (x1, y1, x2, y1 + high), (x1, y2 - high, x2, y2))
    )


def _moved_a_little(box: Corners) -> Corners:
    """The box with an IoU of about 0.9, for repeats that are no exact ones."""
    x1, y1, x2, y2 = box
    return x1, y1, x2 - round((x2 - x1) / 10), y2


def _grid(scene: Scene, num: int) -> list[tuple[float, float]]:
    width, height = scene.seen_size
    return [(width * i / num, height * j / num) for j in range(num) for i in range(num)]


def _placed(scene: Scene, corners: tuple[float, ...]) -> list[float]:
    """Coordinates of the frame that the model saw in the one in which answers are written."""
    width, height = scene.seen_size
    sizes = {"seen": (1, 1), "original": (scene.scale,) * 2, "thousand": (1000 / width, 1000 / height)}
    factors = sizes.get(scene.space, (1 / width, 1 / height))
    moved = [round(corner * factors[i % 2], 5) for i, corner in enumerate(corners)]
    return [int(corner) if corner == int(corner) else corner for corner in moved]


def _json(scene: Scene, items: list[Item]) -> str:
    return json.dumps([{"bbox_2d": _placed(scene, box), "label": label} for label, box in items])


def _point(scene: Scene, box: Corners, share: float) -> str:
    return _written_point(scene, (box[0] + share * (box[2] - box[0]), box[1] + share * (box[3] - box[1])))


def _written_point(scene: Scene, corner: tuple[float, float]) -> str:
    x, y = _placed(scene, corner)
    return f"({x}, {y})"


def _turned(label: str) -> str:
    colour, shape = label.split()
    return f"{shape} in {colour}"


def _sentence(labels: list[str]) -> str:
    return f"There is {listed([f'a {label}' for label in labels])}."
