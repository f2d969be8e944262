"""README's tour, looked at without running it: its commands exist, and its files were made by lines before."""

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest

from bench.tour import ROOT, Stop, stops
from sightline.cli import app
from sightline.config import recipe_names

TOUR = stops((ROOT / "README.md").read_text(encoding="utf-8"))
COMMANDS = [stop for stop in TOUR if stop.language == "sh"]


def words_of(stop: Stop) -> list[str]:
    return shlex.split(stop.text, comments=True)


def test_the_tour_has_commands_and_python():
    assert len(COMMANDS) > 10
    [python] = [stop for stop in TOUR if stop.language == "python"]
    ast.parse(python.text)


@pytest.mark.parametrize("stop", COMMANDS, ids=lambda stop: " ".join(words_of(stop)[1:3]))
def test_every_command_can_be_parsed(stop: Stop):
    name, *words = words_of(stop)
    assert name == "sightline"
    app.parse_args(words, exit_on_error=False, print_error=False)


def test_every_file_was_made_by_a_line_before():
    made: set[Path] = set()
    for stop in COMMANDS:
        words = words_of(stop)[1:]
        for flag, value in itertools.pairwise(words):
            if flag in ("--image", "--source"):
                assert any(path == Path(value) or path in Path(value).parents for path in made), stop.text
        read = [word for word in words[1:] if word.startswith("runs/")]
        if words[0] in ("evaluate", "sample", "export", "report"):
            assert all(Path(word) in made for word in read), stop.text
        if words[0] == "train" or words[:2] == ["data", "check"]:
            assert words[1 if words[0] == "train" else 2] in recipe_names(), stop.text
        if words[0] == "train" and "--dry-run" not in words:
            made.add(Path("runs") / words[1])
        made |= {Path(value) for flag, value in itertools.pairwise(words) if flag == "--out"}


def test_the_section_ends_before_the_next():
    assert re.search(r"^```$", TOUR[-1].text, re.M) is None
