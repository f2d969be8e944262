"""The floors of the package: who may import whom, and which rooms stay free of torch."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft")
TORCH_FREE = (
    "sightline.cli",
    "sightline.config",
    "sightline.data",
    "sightline.bounded",
    "sightline.fields",
    "sightline.run_files",
    "sightline.journal",
    "sightline.pictures",
    "sightline.records",
    "sightline.registry",
    "sightline.reports",
    "sightline.rewards",
    "sightline.serving",
    "sightline.signals",
    "sightline.world",
)
IMPORT_EACH = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    if heavy:
        sys.exit(f"import {{name}} pulls in {{', '.join(heavy)}}")
"""


def modules_of(room: str) -> list[str]:
    """The room and every module below it, from the files alone: nothing is imported here."""
    spec = importlib.util.find_spec("sightline")
    if spec is None or spec.origin is None:
        return []
    package = Path(spec.origin).parent
    folder = package.joinpath(*room.split(".")[1:])
    files = [folder.with_suffix(".py"), *folder.rglob("*.py")]
    dotted = [file.relative_to(package.parent).with_suffix("").parts for file in files if file.is_file()]
    return sorted(".".join(parts).removesuffix(".__init__") for parts in dotted)


@pytest.mark.parametrize("room", [room for room in TORCH_FREE if modules_of(room)])
def test_import_pulls_in_no_torch(room: str):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *modules_of(room)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_rooms_import_only_downwards():
    lint_imports = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [lint_imports, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
