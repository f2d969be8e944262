"""Captions say what is true, and every change makes exactly the mistake that it is named after."""

from collections.abc import Callable

import numpy as np
import pytest

from sightline.world.annotators import quality
from sightline.world.captions import (
    CHANGES,
    MOST_NAMED,
    Labels,
    caption,
    crowded,
    hallucinated,
    missing,
    repeated,
    swapped,
)
from sightline.world.scenes import Scene, companions, make_scene, truth
from sightline.world.tasks import sentence

SCENES = [scene for i in range(300) if (scene := make_scene("train", i)).shapes]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def worth(named: Labels, scene: Scene) -> float:
    return quality(sentence(named), "describe", truth(scene))


def test_captions_are_true_half_of_them_at_least_whole_and_in_no_order(rng: np.random.Generator):
    named = [caption(scene, rng) for scene in SCENES]
    assert all(set(labels) <= set(scene.labels) for labels, scene in zip(named, SCENES, strict=True))
    assert all(len(set(labels)) == len(labels) > 0 for labels in named)
    whole = [len(labels) == len(scene.labels) for labels, scene in zip(named, SCENES, strict=True)]
    assert 0.5 < np.mean(whole) < 0.9
    in_order = [labels == scene.labels for labels, scene in zip(named, SCENES, strict=True) if len(scene.labels) == 5]
    assert np.mean(in_order) < 0.1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_makes_a_caption_worse(rng: np.random.Generator, change: Callable[..., Labels]):
    for scene in SCENES:
        named = caption(scene, rng)
        assert worth(change(named, scene, rng), scene) < worth(named, scene)


def test_changes_do_what_their_names_say(rng: np.random.Generator):
    for scene in SCENES:
        named, there = caption(scene, rng), set(scene.labels)
        more = hallucinated(named, scene, rng)
        [absent] = set(more) - set(named)
        assert absent not in there
        assert tuple(label for label in more if label != absent) == named
        other = swapped(named, scene, rng)
        assert sum(a != b for a, b in zip(named, other, strict=True)) == 1
        assert len(set(other) - there) == 1
        fewer = missing(named, scene, rng)
        assert len(fewer) == max(1, len(named) - 1)
        assert set(fewer) < set(named) or len(named) == 1
        many = crowded(named, scene, rng)
        assert set(named) < set(many)
        assert len(set(many)) == len(many) <= MOST_NAMED
        assert set(repeated(named, scene, rng)) == set(named)


def test_half_of_what_is_hallucinated_is_a_companion_or_more(rng: np.random.Generator):
    usual = []
    for scene in SCENES:
        [absent] = set(hallucinated(scene.labels, scene, rng)) - set(scene.labels)
        usual.append(any(" ".join(companions()[(s.colour, s.shape)]) == absent for s in scene.shapes))
    assert 0.4 < np.mean(usual) < 0.7
