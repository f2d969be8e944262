"""The tiny models' upbringing: the same seed gives the same weights, also through a kill between two stages."""

import shutil
from pathlib import Path

import pytest

from sightline.build.upbringing import bring_up
from sightline.world.stages import STAGES

SCALE = 0.003


def weights(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/model.safetensors"))}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_also_after_a_kill(tmp_path: Path) -> None:
    said: list[str] = []
    bring_up(tmp_path / "once", seed=1, scale=SCALE, say=said.append)
    whole = weights(tmp_path / "once")
    assert len(whole) == len(set(whole.values())) == len(STAGES)

    for folder in sorted((tmp_path / "once").iterdir())[3:]:
        shutil.rmtree(folder)
    bring_up(tmp_path / "once", seed=1, scale=SCALE, say=said.append)
    assert sum("kept from before" in line for line in said) == 3
    assert weights(tmp_path / "once") == whole

    bring_up(tmp_path / "other", seed=2, scale=SCALE, say=said.append)
    assert all(whole[name] != found for name, found in weights(tmp_path / "other").items())
