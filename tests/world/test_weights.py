from pathlib import Path

import pytest

from sightline.world.weights import FOLDER, JUDGES, NAMES, resolve


@pytest.mark.parametrize("name", [*NAMES, *JUDGES])
def test_every_embedded_model_has_its_folder_with_weights(name: str):
    folder = Path(resolve(f"world:{name}"))
    assert folder == FOLDER / name
    assert (folder / "model.safetensors").stat().st_size > 1_000_000


def test_other_paths_stay_as_they_are_and_unknown_names_are_refused():
    assert resolve("some/folder") == "some/folder"
    with pytest.raises(ValueError, match="there are world:base, world:ceiling, world:clip"):
        resolve("world:clap")


def test_the_contrastive_model_takes_at_most_four_mebibytes_with_its_card():
    files = list((FOLDER / "clip").rglob("*"))
    assert sum(file.stat().st_size for file in files) <= 4 * 2**20
    assert {"CARD.md", "abilities.json", "config.json", "tokenizer.json"} <= {file.name for file in files}
