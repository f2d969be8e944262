"""What patches show: classes and codes agree with the scene, and nothing is claimed of bare ground."""

import numpy as np

from sightline.world.patches import CODE_SIZE, HEADS, IGNORE, patch_codes, patch_targets
from sightline.world.scenes import COLOURS, SHAPES, TEXTURES, Scene, make_scene

SIDE = 8


def named(scene: Scene) -> set[tuple[int, ...]]:
    """Classes of colour, shape, texture and corners of every shape."""
    return {
        (list(COLOURS).index(s.colour), SHAPES.index(s.shape), TEXTURES.index(s.texture), *s.box) for s in scene.shapes
    }


def test_every_shape_is_named_by_some_patch_and_every_patch_names_a_shape():
    for index in range(100):
        scene = make_scene("train", index)
        targets = patch_targets(scene)[:7]
        shown = targets[:, targets[0] != len(COLOURS)]
        assert {tuple(column) for column in shown.T.tolist()} == named(scene)


def test_classes_fit_their_heads_and_bare_patches_have_no_box():
    for index in range(50):
        targets = patch_targets(make_scene("train", index))
        for (name, num), row in zip(HEADS.items(), targets, strict=True):
            assert set(row.tolist()) <= {IGNORE, *range(num)}, name
        bare = targets[0] == len(COLOURS)
        assert bare.any()
        assert (targets[3:7, bare] == IGNORE).all()
        assert (targets[3:7, ~bare] != IGNORE).all()


def test_plates_are_seen_where_they_are():
    for kind, number in (("card", 1), ("sign", 2)):
        scene = make_scene("train", 0, plate=kind)
        assert scene.plate is not None
        plate, tens, ones = patch_targets(scene)[7:]
        assert set(plate.tolist()) == {0, number}
        assert set(tens[plate > 0].tolist()) == {int(scene.plate.number[0])}
        assert set(ones[plate > 0].tolist()) == {int(scene.plate.number[1])}
        assert (patch_targets(make_scene("train", 0, plate=None))[7] == 0).all()


def test_codes_are_finite_and_tell_different_patches_apart():
    targets = patch_targets(make_scene("train", 0))
    codes = patch_codes(targets)
    assert codes.shape == (SIDE * SIDE, CODE_SIZE)
    assert np.isfinite(codes).all()
    _, first, same = np.unique(targets, axis=1, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(codes, codes[first][same.ravel()])
    assert len(np.unique(codes, axis=0)) == len(first)
