"""What each patch of a picture shows: the targets from which the tower of the tiny model first learns to see.

Twice: as classes, one per head, which are quick to learn; and as one code in which colour, shape, texture, digits and
corners weigh the same. Without the second step the corners, which have many classes, fill the features and a language
model on top learns boxes long before it learns what is in them.
"""

import numpy as np
from numpy.typing import NDArray

from sightline.world.scenes import CANVAS, COLOURS, SHAPES, TEXTURES, Scene

MIN_COVER = 8.0

HEADS = {
    "colour": len(COLOURS) + 1,
    "shape": len(SHAPES) + 1,
    "texture": len(TEXTURES) + 1,
    "x1": CANVAS + 1,
    "y1": CANVAS + 1,
    "x2": CANVAS + 1,
    "y2": CANVAS + 1,
    "plate": 3,
    "tens": 11,
    "ones": 11,
}
IGNORE = -100


def patch_targets(scene: Scene, *, patch: int = 8) -> NDArray[np.int64]:
    """One class per head and patch, [len(HEADS), patches]; IGNORE where a head has nothing to say."""
    side = CANVAS // patch
    targets = np.full((len(HEADS), side * side), IGNORE, dtype=np.int64)
    targets[[0, 1, 2]] = np.asarray([len(COLOURS), len(SHAPES), len(TEXTURES)])[:, None]
    targets[7] = 0
    edges = np.arange(side) * patch
    best = np.full(side * side, MIN_COVER)
    for shape in scene.shapes:
        x1, y1, x2, y2 = shape.box
        wide = np.clip(np.minimum(edges + patch, x2) - np.maximum(edges, x1), 0, None)
        high = np.clip(np.minimum(edges + patch, y2) - np.maximum(edges, y1), 0, None)
        cover = (high[:, None] * wide[None, :]).reshape(-1)
        here = cover > best
        best = np.where(here, cover, best)
        kinds = (list(COLOURS).index(shape.colour), SHAPES.index(shape.shape), TEXTURES.index(shape.texture))
        targets[:7, here] = np.asarray([*kinds, x1, y1, x2, y2])[:, None]
    if scene.plate is not None:
        x1, y1, x2, y2 = scene.plate.box
        wide = np.minimum(edges + patch, x2) - np.maximum(edges, x1)
        high = np.minimum(edges + patch, y2) - np.maximum(edges, y1)
        here = ((high[:, None] > 2) & (wide[None, :] > 2)).reshape(-1)
        kind = 1 if scene.plate.kind == "card" else 2
        targets[7:, here] = np.asarray([kind, int(scene.plate.number[0]), int(scene.plate.number[1])])[:, None]
    return targets


FREQUENCIES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
CORNERS = ("x1", "y1", "x2", "y2")
CODE_SIZE = sum(2 * len(FREQUENCIES) if name in CORNERS else num for name, num in HEADS.items())
CODE_SCALE = 3.0


def patch_codes(targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """The code of each patch, [patches, CODE_SIZE], from its classes: all attributes that it has weigh the same."""
    parts = []
    for row, (name, num) in zip(targets, HEADS.items(), strict=True):
        known = (row != IGNORE)[:, None]
        value = np.where(row == IGNORE, 0, row)
        if name in CORNERS:
            angle = 2 * np.pi * value[:, None] / CANVAS * np.asarray(FREQUENCIES)
            part = np.concatenate([np.sin(angle), np.cos(angle)], 1) / np.sqrt(len(FREQUENCIES))
        else:
            part = np.eye(num)[value]
        parts.append(np.where(known, part, 0.0))
    return CODE_SCALE * np.concatenate(parts, 1).astype(np.float32)
