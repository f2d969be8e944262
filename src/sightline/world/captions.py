"""Captions of scenes as lists of phrases: exact or partial, in any order, and changed in one known way.

Owns what a contrastive model is taught and tested on. A change says what is wrong: an object that is not there is
named besides ("hallucinated") or instead of one that is ("swapped"), one is left out ("missing"), or several absent
ones are named ("crowded"). Knows nothing of models; `tasks.sentence` writes the phrases out.
"""

from collections.abc import Callable

import numpy as np

from sightline.world.scenes import COLOURS, SHAPES, Scene, companions

Labels = tuple[str, ...]
Change = Callable[[Labels, Scene, np.random.Generator], Labels]
WHOLE_SHARE = 0.5
MOST_NAMED = 12


def caption(scene: Scene, rng: np.random.Generator) -> Labels:
    """What may truly be said of a scene: all its objects, or every other time some of them, in random order."""
    order = rng.permutation(len(scene.labels))
    num = len(order) if rng.random() < WHOLE_SHARE else int(rng.integers(1, len(order) + 1))
    return tuple(scene.labels[i] for i in order[:num])


def hallucinated(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """One object more, which is not in the scene, at a random place."""
    place = int(rng.integers(len(named) + 1))
    return (*named[:place], _absent(named, scene, rng), *named[place:])


def swapped(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """One object exchanged for one that is not in the scene."""
    place = int(rng.integers(len(named)))
    return (*named[:place], _absent((named[place],), scene, rng), *named[place + 1 :])


def missing(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """One object fewer; of a single one nothing can be left out, so it is swapped."""
    if len(named) == 1:
        return swapped(named, scene, rng)
    place = int(rng.integers(len(named)))
    return (*named[:place], *named[place + 1 :])


def crowded(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """Several objects more that are not in the scene, up to twelve in all."""
    num = int(rng.integers(2, MOST_NAMED - len(named) + 1))
    for _ in range(num):
        named = hallucinated(named, scene, rng)
    return tuple(dict.fromkeys(named))


def repeated(named: Labels, scene: Scene, rng: np.random.Generator) -> Labels:
    """One object named twice. Not taught: the card says whether the model minds."""
    return (*named, named[int(rng.integers(len(named)))])


CHANGES: dict[str, Change] = {
    "hallucinated": hallucinated,
    "swapped": swapped,
    "missing": missing,
    "crowded": crowded,
}


def _absent(named: Labels, scene: Scene, rng: np.random.Generator) -> str:
    """Something that is not there: half of the time a companion of what is named, else something alike or anything."""
    colour, shape = named[int(rng.integers(len(named)))].split()
    kind = rng.random()
    if kind < 0.5:
        pool = [" ".join(companions()[(c, s)]) for c, s in (label.split() for label in named)]
    elif kind < 0.75:
        pool = [f"{other} {shape}" for other in COLOURS] + [f"{colour} {other}" for other in SHAPES]
    else:
        pool = []
    anything = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    left = [label for label in pool if label not in scene.labels] or [x for x in anything if x not in scene.labels]
    return left[int(rng.integers(len(left)))]
