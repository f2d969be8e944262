"""`sightline reward list | probe | score`, by their exit status, what they print and what they write."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import main
from sightline.registry import catalogue

BUGGY = '''
def knows_cats(completion, context):
    """1 for the right number, with a bug: some words are not in the list."""
    if "count" not in context.truth:
        return None
    numbers = {"": 0, **{str(i): i for i in range(100)}}
    return float(numbers[completion.text.strip()] == context.truth["count"])
'''
CASE = {
    "id": "a",
    "completion": '[{"bbox_2d": [0, 0, 50, 50], "label": "cat"}]',
    "truth": {"objects": [{"label": "cat", "box": [0, 0, 100, 100]}]},
    "image": {"width": 200, "height": 200, "seen_width": 100, "seen_height": 100},
    "progress": 0.3,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("SIGHTLINE_TRACEBACK", raising=False)
    (tmp_path / "own.py").write_text(BUGGY)
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    return tmp_path


def error_line(capsys, *arguments: str) -> str:
    assert main(["reward", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sightline: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("sightline: error: ").rstrip("\n")


def score(*more: str) -> list[dict]:
    assert main(["reward", "score", *more, "--input", "cases.jsonl", "--output", "scores.jsonl"]) == 0
    return [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("command", ["list", "probe", "score"])
def test_help_teaches_by_example(command, capsys):
    assert main(["reward", command, "--help"]) == 0
    assert f"Example: sightline reward {command}" in " ".join(capsys.readouterr().out.split())


def test_the_overview_names_the_group_and_its_commands(capsys):
    assert main([]) == 0
    assert main(["reward"]) == 0
    out = capsys.readouterr().out
    assert all(f"│ {word} " in out for word in ("reward", "list", "probe", "score"))


def test_list_gives_every_reward_with_its_options(capsys):
    assert main(["reward", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.split()[0] for line in lines if line[:1].strip()]
    assert named == catalogue()["reward"]
    assert any(line.startswith("vision_r1 ") and "format + recall + precision, 0 to 3." in line for line in lines)
    assert 'mode: "sightline", phase: null, step: 0.5' in " ".join(" ".join(lines).split())


def test_a_reward_that_stands_ends_in_zero(capsys):
    assert main(["reward", "probe", "count", "--cases", "2"]) == 0
    out = capsys.readouterr().out
    assert "count on count: 2 cases, honest answer 1.000" in out
    assert "all numbers 0 to 20" in out
    assert out.rstrip().splitlines()[-1].startswith("count passes: none of ")


def test_a_reward_that_falls_ends_in_one_and_shows_the_attacks(capsys):
    assert main(["reward", "probe", "vision_r1", "--options", '{"mode": "released"}', "--cases", "2"]) == 1
    out = capsys.readouterr().out
    assert "fails (worst)" in out
    assert 'every label swapped: in 2 of 2 cases at least the honest score, such as \'[{"bbox_2d"' in out
    assert out.rstrip().endswith("attacks break it")


def test_the_table_says_where_an_attack_is_the_truth(capsys):
    assert main(["reward", "probe", "yes_no", "--cases", "4"]) == 0
    assert "(exempt in " in capsys.readouterr().out
    assert main(["reward", "probe", "yes_no", "--cases", "1"]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.rstrip(" │").endswith("exempt")]
    assert "always " in row


def test_everything_is_written_for_machines(folder, capsys):
    flags = ["--options", '{"form": "vlm_r1"}', "--cases", "2", "--seed", "3", "--json", "found.json"]
    assert main(["reward", "probe", "map", *flags]) == 1
    found = json.loads((folder / "found.json").read_text())
    assert (found["reward"], found["seed"], found["passed"]) == ("map", 3, False)
    assert found["options"] == {"form": "vlm_r1"}
    [kind] = found["kinds"]
    verdicts = {attack["name"]: attack["verdict"] for attack in kind["attacks"]}
    assert verdicts["a hundred random boxes added"] == "at least"
    assert verdicts["empty"] == "below"


def test_a_shaping_reward_is_probed_in_a_sum(capsys):
    assert main(["reward", "probe", "format", "--cases", "2"]) == 0
    assert "format + map on boxes" in capsys.readouterr().out


def test_a_reward_of_ones_own_with_a_bug_is_told_and_not_thrown(capsys):
    assert main(["reward", "probe", "own:knows_cats", "--truth", "count", "--cases", "2"]) == 1
    out = capsys.readouterr().out
    assert "malformed JSON: raised KeyError: " in out
    assert out.rstrip().endswith("attacks break it")


def test_scores_of_rows_with_options(capsys):
    parts = {"format": 1.0, "recall": 1.0, "precision": 1.0, "charge": 0.0}
    assert score("vision_r1") == [{"id": "a", "value": 3.0, "parts": parts}]
    [other] = score("vision_r1", "--options", '{"mode": "released", "space": "original", "phase": "early"}')
    assert other["value"] == 1.0
    assert capsys.readouterr().err == "1 rows in scores.jsonl\n" * 2


def test_rows_that_cannot_be_scored_are_counted(folder, capsys):
    lines = [json.dumps(CASE), "{", json.dumps(CASE | {"id": "b", "truth": {}})]
    (folder / "cases.jsonl").write_text("\n".join(lines))
    rows = score("box_f1")
    assert [row["id"] for row in rows] == ["a", None, "b"]
    assert rows[1]["error"].startswith("line 2: is not JSON")
    assert capsys.readouterr().err == "3 rows in scores.jsonl, 2 of them with an error in place of a score\n"


def test_a_long_file_is_told_of_on_the_way(capsys, monkeypatch):
    monkeypatch.setattr("sightline.progress.SECONDS_BETWEEN_LINES", 0.0)
    score("box_f1")
    assert re.search(r"^scoring, row 1; 0:\d\d so far$", capsys.readouterr().err, re.M)


def test_scoring_needs_no_torch(folder):
    command = (
        "import sys; from sightline.cli import main; "
        "status = main(['reward', 'score', 'vision_r1', '--input', 'cases.jsonl', '--output', 'out.jsonl']); "
        "sys.exit(status or 10 * any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "out.jsonl").read_text())["value"] == 3.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["probe", "vision_r2"], "reward 'vision_r2' is unknown; did you mean vision_r1?"),
        (["probe", "vision_r1", "--truth", "box"], "truth is 'box'; did you mean boxes?"),
        (["probe", "vision_r1", "--options", "{"], "--options is not JSON"),
        (["probe", "vision_r1", "--options", "[1]"], '--options is [1]; give a JSON object, such as \'{"mode"'),
        (["probe", "count", "--timeout", "0"], "--timeout is 0; give seconds above 0"),
        (["probe", "own:knows_dogs"], "reward 'own:knows_dogs': own has no 'knows_dogs'; did you mean knows_cats?"),
        (["score", "vision_r1"], "Command"),
    ],
)
def test_mistakes_are_one_line(arguments, says, capsys):
    assert error_line(capsys, *arguments).startswith(says)


def test_mistakes_in_options_are_found_before_anything_is_written(folder, capsys):
    files = ["--input", "cases.jsonl", "--output", "out.jsonl"]
    said = error_line(capsys, "score", "vision_r1", "--options", '{"mod": "paper"}', *files)
    assert said.endswith("has no option 'mod'; did you mean mode?")
    said = error_line(capsys, "score", "vision_r1", "--options", '{"mode": "papre"}', *files)
    assert said == "mode is 'papre'; did you mean paper?"
    assert not (folder / "out.jsonl").exists()


def test_files_are_checked(capsys):
    said = error_line(capsys, "score", "box_f1", "--input", "case.jsonl", "--output", "out.jsonl")
    assert said == "case.jsonl does not exist; did you mean cases.jsonl?"
    said = error_line(capsys, "score", "box_f1", "--input", "cases.jsonl", "--output", "cases.jsonl")
    assert said == "--output cases.jsonl is the input; name a file"
    said = error_line(capsys, "score", "box_f1", "--input", "cases.jsonl", "--output", ".")
    assert said == "--output . is a folder; name a file"
