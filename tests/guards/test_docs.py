"""Recipes, links and reference rows tell the present truth, and no file names one machine."""

import re
import subprocess
from pathlib import Path

import pytest

from sightline.config import load_recipe
from sightline.registry import catalogue

ROOT = Path(__file__).parents[2]
NO_RUNS = ("judges", "launch")  # tests/test_config_judge.py and tests/train/test_lost_process.py hold them
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name not in NO_RUNS)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
CODE_SPAN = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"""\]\(<?([^)>\s]+)>?(?:\s+"[^"]*")?\)|(?:src|href)="([^"]+)\"""")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)
# Composed, so that this file does not match itself: an absolute path below one of these folders.
MACHINE_PATH = re.compile(rf"(?<![\w.~}})$-])/(?:{'|'.join(('work', 'root', 'farm', 'opt'))})/".encode())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("recipe", RECIPES, ids=relative)
def test_recipe_opens_with_its_command_and_validates(recipe: Path):
    lines = recipe.read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    command = f"sightline train {relative(recipe)}"
    assert any(command in line for line in lines[:end]), f"the opening comment lacks: {command}"
    load_recipe([recipe], [])


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_relative_links_point_to_files(page: Path):
    prose = CODE_SPAN.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))
    targets = [markdown or html for markdown, html in LINK.findall(prose)]
    paths = [target.partition("#")[0] for target in targets if not ELSEWHERE.match(target)]
    broken = [path for path in paths if not (page.parent / path).exists()]
    assert not broken, f"{relative(page)} links to missing {broken}"


def test_no_tracked_file_names_one_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    named = [relative(file) for file in files if file.is_file() and MACHINE_PATH.search(file.read_bytes())]
    assert not named, f"paths of one machine in {named}"


def test_every_registered_name_has_its_reference_row():
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    missing = [
        f"{kind} {name}" for kind, names in catalogue().items() for name in names if f"`{name}`" not in reference
    ]
    assert not missing, f"docs/reference.md does not mention {missing}"
