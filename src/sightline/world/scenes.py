"""Drawn scenes with complete ground truth, deterministic from (seed, split, index).

A scene is plain data; `draw` paints it into an array. Knows nothing of questions, answers or models.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 165, 60),
    "blue": (50, 90, 225),
    "yellow": (240, 215, 50),
    "purple": (150, 60, 190),
    "orange": (245, 135, 30),
}
TEXTURES = ("plain", "striped", "dotted")
SIZES = {"small": (10, 14), "large": (17, 23)}
SPLITS = ("train", "validation", "test", "pairs", "crowd", "canvas", "ground", "corrupt")
HELD_OUT = frozenset({("purple", "star"), ("orange", "cross"), ("green", "diamond"), ("yellow", "triangle")})
CANVAS = 64
COMPANION_RATE = 0.35

CardKind = Literal["card", "sign"]
Box = tuple[int, int, int, int]

_GLYPHS = {
    "0": "111101101101111", "1": "010110010010111", "2": "111001111100111", "3": "111001111001111",
    "4": "101101111001001", "5": "111100111001111", "6": "111100111101111", "7": "111001010010010",
    "8": "111101111101111", "9": "111101111001111",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One drawn object. Example: a large striped red circle with `box` (4, 6, 24, 26)."""

    colour: str
    """One of COLOURS."""
    shape: str
    """One of SHAPES."""
    texture: str
    """One of TEXTURES."""
    size: str
    """One of SIZES."""
    box: Box
    """Left, top, right, bottom in pixels of the canvas; right and bottom are exclusive edges."""

    @property
    def label(self) -> str:
        """The phrase that names it: colour and shape."""
        return f"{self.colour} {self.shape}"

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """Printed digits: on a private card they must not be read out, on a public sign they may be."""

    kind: CardKind
    """Card (white, private) or sign (dark, public)."""
    number: str
    """Two digits."""
    box: Box
    """Left, top, right, bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is in one picture; `shapes` are in reading order (left to right)."""

    split: str
    """One of SPLITS."""
    seed: int
    """Seed of the world."""
    index: int
    """Number within the split."""
    width: int
    """Canvas width in pixels."""
    height: int
    """Canvas height in pixels."""
    ground: tuple[int, int, int]
    """Colour behind the shapes."""
    pattern: str
    """How the ground is drawn: flat, gradient, checker or grain."""
    corruption: str | None
    """Damage done to the finished picture: noise, blur, dark or blocks."""
    shapes: tuple[Shape, ...]
    """The objects; no two share a phrase. Once in some hundred thousand scenes none finds a place."""
    plate: Plate | None
    """The card or sign, if there is one."""

    @property
    def id(self) -> str:
        """Unique name of the scene."""
        return f"{self.split}-{self.seed}-{self.index}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Phrases of all objects, in reading order."""
        return tuple(shape.label for shape in self.shapes)


def truth(scene: Scene) -> dict[str, Any]:
    """The whole truth about a scene as plain JSON values; boxes in pixels of the original canvas."""
    objects = [{"label": s.label, "box": list(s.box), "texture": s.texture, "size": s.size} for s in scene.shapes]
    plate = None if scene.plate is None else {
        "kind": scene.plate.kind, "number": scene.plate.number, "box": list(scene.plate.box),
    }  # fmt: skip
    return {"objects": objects, "plate": plate, "width": scene.width, "height": scene.height}


def phrases() -> tuple[tuple[str, str], ...]:
    """All (colour, shape) pairs in a fixed order."""
    return tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@lru_cache(maxsize=1)
def companions() -> dict[tuple[str, str], tuple[str, str]]:
    """The phrase that usually stands beside each phrase: one fixed cycle through all that training may see."""
    seen = [pair for pair in phrases() if pair not in HELD_OUT]
    order = np.random.default_rng(20261120).permutation(len(seen))
    cycle = [seen[i] for i in order]
    table = {pair: cycle[(i + 1) % len(cycle)] for i, pair in enumerate(cycle)}
    return table | {pair: cycle[i] for i, pair in enumerate(sorted(HELD_OUT))}


def make_scene(split: str, index: int, *, seed: int = 0, plate: CardKind | Literal["any"] | None = "any") -> Scene:
    """The scene with this number; `plate` forces a card, a sign or neither instead of leaving it to chance."""
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
    rng = np.random.Generator(np.random.PCG64([seed, SPLITS.index(split), index, 0]))
    side = CANVAS + 32 if split == "canvas" else CANVAS
    taken: list[Box] = []
    chosen_plate = _make_plate(rng, side, plate, taken)
    num_shapes = int(rng.integers(6, 9)) if split == "crowd" else int(rng.integers(1, 6))
    shapes = _make_shapes(rng, side, num_shapes, taken, crowd=split == "crowd", held_out=split == "pairs")
    tone = int(rng.integers(0, 60))
    ground = (tone + 175, tone + 170, tone + 165) if rng.random() < 0.7 else (tone, tone, tone + 5)
    patterns, corruptions = ("gradient", "checker", "grain"), ("noise", "blur", "dark", "blocks")
    return Scene(
        split=split,
        seed=seed,
        index=index,
        width=side,
        height=side,
        ground=ground,
        pattern=patterns[int(rng.integers(3))] if split == "ground" else "flat",
        corruption=corruptions[int(rng.integers(4))] if split == "corrupt" else None,
        shapes=tuple(sorted(shapes, key=lambda s: (s.box[0] + s.box[2], s.box[1]))),
        plate=chosen_plate,
    )


def draw(scene: Scene) -> NDArray[np.uint8]:
    """The picture, [height, width, 3]."""
    rng = np.random.Generator(np.random.PCG64([scene.seed, SPLITS.index(scene.split), scene.index, 1]))
    canvas = _draw_ground(scene, rng)
    for shape in scene.shapes:
        side, offset = _side_and_offset(shape)
        mask, shade = _mask(shape.shape, side), _shade(shape.texture, side)
        left, top = shape.box[0] - offset[0], shape.box[1] - offset[1]
        colour = (shade[..., None] * np.asarray(COLOURS[shape.colour], dtype=np.float32)).astype(np.uint8)
        canvas[top : top + side, left : left + side][mask] = colour[mask]
    if scene.plate is not None:
        _draw_plate(canvas, scene.plate)
    return canvas if scene.corruption is None else _corrupt(canvas, scene.corruption, rng)


def _make_plate(rng: np.random.Generator, side: int, plate: str | None, taken: list[Box]) -> Plate | None:
    chance, kind, number = rng.random(), int(rng.integers(2)), int(rng.integers(10, 100))
    left, top = int(rng.integers(1, side - 19)), int(rng.integers(1, side - 15))
    if plate is None or (plate == "any" and chance < 0.5):
        return None
    box = (left, top, left + 18, top + 14)
    taken.append(box)
    chosen: CardKind = ("card", "sign")[kind] if plate == "any" else ("sign" if plate == "sign" else "card")
    return Plate(kind=chosen, number=str(number), box=box)


def _make_shapes(
    rng: np.random.Generator, side: int, num: int, taken: list[Box], *, crowd: bool, held_out: bool
) -> list[Shape]:
    shapes: list[Shape] = []
    used: set[tuple[str, str]] = set()
    seen = [pair for pair in phrases() if pair not in HELD_OUT]
    while len(shapes) < num:
        pool = sorted(HELD_OUT) if held_out and not shapes else seen
        pair = pool[int(rng.integers(len(pool)))]
        if shapes and rng.random() < COMPANION_RATE:
            last = shapes[-1]
            pair = companions()[(last.colour, last.shape)]
        size = "small" if crowd or rng.random() < 0.5 else "large"
        extent = int(rng.integers(SIZES[size][0], SIZES[size][1] + 1))
        texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
        if pair in used:
            continue
        place = _free_place(rng, side, extent, taken)
        if place is None:
            break
        bounds = _bounds(pair[1], extent)
        left, top = place
        box = (left + bounds[0], top + bounds[1], left + bounds[2], top + bounds[3])
        taken.append((left, top, left + extent, top + extent))
        used.add(pair)
        shapes.append(Shape(colour=pair[0], shape=pair[1], texture=texture, size=size, box=box))
    return shapes


def _free_place(rng: np.random.Generator, side: int, extent: int, taken: list[Box]) -> tuple[int, int] | None:
    for left, top in rng.integers(0, side - extent + 1, size=(40, 2)).tolist():
        if all(
            left >= x2 + 1 or left + extent + 1 <= x1 or top >= y2 + 1 or top + extent + 1 <= y1
            for x1, y1, x2, y2 in taken
        ):
            return left, top
    return None


@cache
def _mask(shape: str, side: int) -> NDArray[np.bool_]:
    middle = (side - 1) / 2
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    dx, dy, radius = x - middle, y - middle, side / 2
    if shape == "circle":
        return dx**2 + dy**2 <= radius**2
    if shape == "square":
        return np.ones((side, side), dtype=np.bool_)
    if shape == "triangle":
        return np.abs(dx) <= (y + 1) / side * radius
    if shape == "diamond":
        return np.abs(dx) + np.abs(dy) <= radius
    if shape == "cross":
        return (np.abs(dx) <= side / 6) | (np.abs(dy) <= side / 6)
    angle = (np.arctan2(dx, -dy) / (2 * np.pi) * 5) % 1.0
    tip = np.abs(angle - 0.5) * 2
    return np.hypot(dx, dy) <= radius * (0.42 + 0.62 * tip**1.5)


@cache
def _bounds(shape: str, side: int) -> Box:
    rows, columns = np.nonzero(_mask(shape, side))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@cache
def _shade(texture: str, side: int) -> NDArray[np.float32]:
    y, x = np.mgrid[0:side, 0:side]
    dark = np.zeros((side, side), dtype=np.bool_)
    if texture == "striped":
        dark = (y // 2) % 2 == 1
    elif texture == "dotted":
        dark = (y % 4 < 2) & (x % 4 < 2)
    return np.where(dark, 0.45, 1.0).astype(np.float32)


def _side_and_offset(shape: Shape) -> tuple[int, tuple[int, int]]:
    """Side of the square that the mask was made in, and where the tight box begins in it."""
    width, height = shape.box[2] - shape.box[0], shape.box[3] - shape.box[1]
    low, high = SIZES[shape.size]
    for side in range(low, high + 1):
        bounds = _bounds(shape.shape, side)
        if (bounds[2] - bounds[0], bounds[3] - bounds[1]) == (width, height):
            return side, (bounds[0], bounds[1])
    raise AssertionError(f"no mask fits {shape}")


def _draw_ground(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    canvas = np.empty((scene.height, scene.width, 3), dtype=np.uint8)
    canvas[:] = scene.ground
    if scene.pattern == "flat":
        return canvas
    y, x = np.mgrid[0 : scene.height, 0 : scene.width]
    if scene.pattern == "gradient":
        change = (x + y) / (scene.width + scene.height) * 70 - 35
    elif scene.pattern == "checker":
        change = np.where(((x // 6) + (y // 6)) % 2 == 0, 16.0, -16.0)
    else:
        change = rng.normal(0, 18, size=(scene.height, scene.width))
    return np.clip(canvas + change[..., None], 0, 255).astype(np.uint8)


def _draw_plate(canvas: NDArray[np.uint8], plate: Plate) -> None:
    left, top, right, bottom = plate.box
    paper, ink = ((250, 250, 250), (20, 20, 20)) if plate.kind == "card" else ((35, 50, 70), (245, 245, 245))
    canvas[top:bottom, left:right] = ink
    canvas[top + 1 : bottom - 1, left + 1 : right - 1] = paper
    for i, digit in enumerate(plate.number):
        bits = np.asarray([bit == "1" for bit in _GLYPHS[digit]]).reshape(5, 3)
        glyph = bits.repeat(2, axis=0).repeat(2, axis=1)
        x, y = left + 2 + i * 8, top + 2
        canvas[y : y + 10, x : x + 6][glyph] = ink


def _corrupt(canvas: NDArray[np.uint8], kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = canvas.astype(np.float32)
    if kind == "noise":
        picture = picture + rng.normal(0, 22, size=picture.shape)
    elif kind == "dark":
        picture = picture * 0.5 + 10
    elif kind == "blocks":
        small = picture[::2, ::2]
        picture = small.repeat(2, axis=0).repeat(2, axis=1)
    else:
        padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = picture.shape[:2]
        parts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
        picture = np.sum(parts, axis=0) / 9
    return np.clip(picture, 0, 255).astype(np.uint8)
