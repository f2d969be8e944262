from pathlib import Path

import torch

from sightline.models.reading import reading_policy
from tests.tiny import picture, tiny_trained


def test_a_picture_is_encoded_once_for_models_with_one_tower(tmp_path: Path):
    first, second = (reading_policy(tiny_trained("full"), shelf=tmp_path) for _ in range(2))
    pictures = [picture(0), picture(1)]
    made, taken = first.vision.features(pictures), second.vision.features(pictures)
    assert (first.vision.num_encoded, second.vision.num_encoded) == (2, 0)
    assert all(torch.equal(made[key], taken[key]) for key in made)


def test_another_tower_encodes_its_own(tmp_path: Path):
    first, other = tiny_trained("full"), tiny_trained("full")
    with torch.no_grad():
        next(other.family.tower(other.model).parameters()).add_(1.0)
    for loaded in (first, other):
        policy = reading_policy(loaded, shelf=tmp_path)
        policy.vision.features([picture(0)])
        assert policy.vision.num_encoded == 1
