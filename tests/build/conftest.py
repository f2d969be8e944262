from pathlib import Path

import pytest

from tests.train.runs import save_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny model, 12 groups to learn from and 4 to validate on."""
    folder = tmp_path_factory.mktemp("world")
    save_world(folder)
    return folder
