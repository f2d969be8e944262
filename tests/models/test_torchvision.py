"""A torchvision that does not fit the torch beside it is one sentence with a cure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNFIT = 'raise RuntimeError("operator torchvision::nms does not exist")'


@pytest.fixture
def beside(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds a torchvision of another build."""
    package, facts = tmp_path / "torchvision", tmp_path / "torchvision-0.26.0.dist-info"
    for folder in (package, facts):
        folder.mkdir()
    (package / "__init__.py").write_text(UNFIT + "\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.26.0\n")
    paths = [str(tmp_path), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def test_a_torchvision_of_another_build_is_one_sentence(beside: dict[str, str]):
    words = ["evaluate", "world:base", "--tasks", "detect", "--scenes", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "sightline.cli", *words], env=beside, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sightline: error: torchvision 0.26.0 does not fit torch ")
    assert "(operator torchvision::nms does not exist)" in last
    assert "pip uninstall torchvision" in last
    assert "Traceback" not in done.stderr
