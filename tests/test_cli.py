import errno
import json
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import sightline
from sightline.cli import main
from sightline.config import load_recipe, recipe_names
from sightline.data.check import check
from sightline.data.files import read_groups, write_groups
from sightline.data.images import ImageStore
from sightline.journal import Journal, RunFailed, recipe_of
from sightline.records import Completion, Group, Image, Message, Pair, Prompt

RECIPE = """
name: tiny
model: {path: world:base}
data: {files: [pairs.jsonl]}
objective: {kind: dpo}
"""
COMMANDS = (
    "train",
    "resume",
    "sample",
    "chat",
    "env",
    "evaluate",
    "export",
    "report",
    "demo",
    "doctor",
    "plan",
    "data check",
    "data convert",
    "data import",
    "world build",
    "world draw",
    "world groups",
    "world prompts",
    "recipes list",
    "recipes show",
    "recipes copy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What evaluation gives: an estimate with its interval."""

    estimate: float
    low: float
    high: float


def group(prompt_id: str, *, text: str = "A red circle.", image: Image | None = None) -> Group:
    content = ("What is here?",) if image is None else (image, "What is here?")
    return Group(
        prompt=Prompt(id=prompt_id, messages=(Message(role="user", content=content),)),
        completions=(Completion(text=text), Completion(text="A blue star.")),
        signals=(Pair(chosen=0, rejected=1),),
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIGHTLINE_TRACEBACK", raising=False)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    write_groups(tmp_path / "pairs.jsonl", [group("1"), group("2")])
    return tmp_path


@pytest.fixture
def build(monkeypatch) -> types.ModuleType:
    """Stands where the heavy room stands; a test gives it the functions that are to be called."""
    stand_in = types.ModuleType("sightline.build")
    monkeypatch.setitem(sys.modules, "sightline.build", stand_in)
    monkeypatch.setattr(sightline, "build", stand_in, raising=False)
    return stand_in


def recording(calls: list[dict], result=None):
    def function(**arguments):
        calls.append(arguments)
        return result

    return function


def raising(error: BaseException):
    def function(**arguments):
        raise error

    return function


def error_line(capsys, arguments: list[str], *, status: int = 2) -> str:
    """Run a command that must end in one line on stderr, and give the line without its head."""
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sightline: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("sightline: error: ").rstrip("\n")


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_teaches_by_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: sightline {command}" in text


def test_every_command_is_in_the_overview(capsys):
    for arguments in ([], ["data"], ["world"], ["recipes"]):
        assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"│ {word} " in text for command in COMMANDS for word in command.split())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == sightline.__version__


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "train tiny.yaml --objective.bta 1",
            "command line: objective.bta: unknown key; did you mean beta?",
        ),
        ("train tiny.yaml objective.bta=1", "command line: objective.bta: unknown key; did you mean beta?"),
        ("train tiny.yaml --dry-rn", "unknown option --dry-rn; did you mean --dry-run?"),
        ("train tiny.yaml --sed 1", "unknown option --sed; did you mean --seed?"),
        ("train tiny.yaml --seed", "option --seed has no value; write it as --seed VALUE"),
        ("train tiny.yaml --seed --dry-run", "option --seed has no value; write it as --seed VALUE"),
        ("train", "no recipe is named; `sightline recipes list` shows those that are shipped"),
        ("train tinny.yaml", "tinny.yaml: no such recipe; did you mean tiny.yaml?"),
        (
            "train tiny.yaml --data.files [pair.jsonl]",
            "tiny.yaml: data.files: pair.jsonl does not exist; did you mean pairs.jsonl?",
        ),
        (
            "trian tiny.yaml",
            'Unknown command "trian". Did you mean "train"? Available commands: data, world, recipes, reward,'
            " train, resume, sample, evaluate, ...",
        ),
        ("data chekc", 'Unknown command "chekc". Did you mean "check"? Available commands: check, convert, import.'),
        ("data check x --on-bd skip", "unknown option --on-bd; did you mean --on-bad?"),
        (
            "data check x --on-bad skp",
            'Invalid value "skp" for --on-bad. Choose from: "error", "skip". Did you mean "skip"?',
        ),
        ("data check", "data check: no file is named; give JSONL or Parquet files of groups, or a recipe"),
        ("data check pair.jsonl", "pair.jsonl does not exist; did you mean pairs.jsonl?"),
        ("data check .", ". is a folder; name a file"),
        ("sample world:base --prompt x --image scene.png", "scene.png does not exist"),
        ("sample world:base --prompt x --num 0", 'Invalid value "0" for --num. Must be >= 1.'),
        ("sample world:base", 'Command "sample" parameter --prompt requires an argument.'),
        ("evaluate world:base --tasks describe,exst", "task 'exst' is unknown; did you mean exist?"),
        ("evaluate world:base --split tset", "split 'tset' is unknown; did you mean test?"),
        (
            "world groups --task describe --out x.jsonl --annotator persn",
            "annotator 'persn' is unknown; did you mean person?",
        ),
        ("world build --scale 2", "--scale is 2.0; give more than 0 and at most 1"),
        (
            "resume nowhere",
            "nowhere does not exist; name the folder that `sightline train` printed, such as runs/dpo_world",
        ),
        (
            "resume .",
            ". holds no run (no recipe.yaml); name the folder that `sightline train` printed, such as runs/dpo_world",
        ),
        ("export a b c", "'c' is one word too many; see --help"),
        ("recipes show dpo_wrld", "dpo_wrld: no such recipe; did you mean dpo_world?"),
        ("recipes copy dpo_world tiny.yaml", "tiny.yaml is there already; give a new name, or remove it"),
        (
            "data convert pairs.jsonl pairs.jsonl",
            "pairs.jsonl is there already; give a new name, or remove it",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_two(arguments, line, capsys):
    assert error_line(capsys, arguments.split()) == line


@pytest.mark.parametrize(
    "arguments",
    [
        "train bad.yaml",
        "train tiny.yaml --objective.bta 1",
        "train tinny.yaml",
        "sample x --prompt y --image z.png",
    ],
)
def test_a_mistake_ends_the_process_before_torch_is_imported(folder, arguments):
    (folder / "bad.yaml").write_text(RECIPE + "objctive: {}\n")
    traps = folder / "traps"
    traps.mkdir()
    for name in ("torch", "transformers"):
        (traps / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    path = os.pathsep.join([str(traps), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "sightline.cli", *arguments.split()]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("sightline: error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_run_that_failed_is_exit_status_one(build, capsys):
    build.train = raising(RunFailed("three steps in a row\nwere not finite; lower optim.learning_rate"))
    line = error_line(capsys, ["train", "tiny.yaml"], status=1)
    assert line == "three steps in a row were not finite; lower optim.learning_rate"
    build.train = raising(OSError(errno.ENOSPC, "No space left on device", "x.bin"))
    assert "no space left on device" in error_line(capsys, ["train", "tiny.yaml"], status=1)


def test_a_missing_model_is_exit_status_two(build, capsys):
    build.train = raising(OSError("nobody/nothing is not a local folder\nand not a model on the hub"))
    assert error_line(capsys, ["train", "tiny.yaml"]).startswith("nobody/nothing is not a local folder and not")


def test_control_characters_in_an_error_do_not_reach_the_terminal(build, capsys):
    build.train = raising(ValueError("bad \x1b[31mrow"))
    assert error_line(capsys, ["train", "tiny.yaml"]) == r"bad \x1b[31mrow"


def test_ctrl_c_is_exit_status_130_with_a_line(build, capsys):
    build.train = raising(KeyboardInterrupt())
    assert main(["train", "tiny.yaml"]) == 130
    assert capsys.readouterr().err == "sightline: stopped\n"


def test_our_own_mistakes_keep_their_traceback(build, monkeypatch):
    build.train = raising(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["train", "tiny.yaml"])
    monkeypatch.setenv("SIGHTLINE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unknown option"):
        main(["train", "tiny.yaml", "--dry-rn"])


def test_a_reader_that_leaves_is_no_mistake():
    command = f"{sys.executable} -m sightline.cli train dpo_world --dry-run --name {'x' * 100_000} | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "n", "")


# Train and resume


def test_a_dry_run_prints_the_resolved_recipe_and_writes_nothing(folder, capsys):
    before = sorted(folder.iterdir())
    assert main(["train", "tiny.yaml", "--objective.beta", "0.3", "--dry-run", "seed=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["objective"]["beta"] == 0.3
    assert sorted(folder.iterdir()) == before


def test_flags_may_be_written_with_an_equals_sign_and_negative_values_are_values(capsys):
    assert main(["train", "tiny.yaml", "--objective.beta=0.3", "--dry-run"]) == 0
    assert "beta: 0.3" in capsys.readouterr().out
    expected = "command line: optim.weight_decay: is -1; give at least 0"
    assert error_line(capsys, ["train", "tiny.yaml", "--optim.weight_decay", "-1"]) == expected


def test_train_hands_the_resolved_recipe_to_build(build, capsys):
    calls: list[dict] = []
    build.train = recording(calls, Path("runs/tiny"))
    assert main(["train", "tiny.yaml", "--seed", "3"]) == 0
    assert calls == [{"recipe": load_recipe(["tiny.yaml"], ["seed=3"])}]
    assert "run: runs/tiny\n" in capsys.readouterr().out


def test_what_comes_next_depends_on_what_was_trained(build, capsys):
    build.train = recording([], Path("runs/tiny"))
    main(["train", "tiny.yaml"])
    assert "next: sightline sample runs/tiny --image" in capsys.readouterr().out
    Journal.create("runs/tiny", {"objective": {"kind": "ranking"}}, {}).close()
    main(["train", "tiny.yaml", "--out", "runs/other"])
    assert "next: sightline evaluate MODEL --best-of 8 --scorer runs/tiny;" in capsys.readouterr().out


def test_train_goes_on_with_the_same_run_and_refuses_another(build, capsys):
    calls: list[dict] = []
    build.resume = recording(calls, Path("runs/tiny"))
    main(["train", "tiny.yaml", "--dry-run"])
    with Journal.create("runs/tiny", yaml.safe_load(capsys.readouterr().out), {}) as journal:
        journal.write_checkpoint(1, lambda folder: None)
    assert main(["train", "tiny.yaml"]) == 0
    assert calls == [{"folder": Path("runs/tiny"), "trust_remote_code": True}]
    assert capsys.readouterr().out.startswith("runs/tiny holds this run already: going on with it\n")
    assert error_line(capsys, ["train", "tiny.yaml", "--objective.beta", "0.3", "--seed", "1"]) == (
        "runs/tiny holds a run of another recipe (seed is 1 and was 0 and 1 more); choose another folder with"
        " --out, or remove this one"
    )
    assert recipe_of("runs/tiny") is not None


def test_resume_checks_the_run_before_build_is_imported(build, folder, capsys):
    calls: list[dict] = []
    build.resume = recording(calls, Path("runs/tiny"))
    main(["train", "tiny.yaml", "--dry-run"])
    Journal.create("runs/tiny", yaml.safe_load(capsys.readouterr().out), {}).close()
    assert main(["resume", "runs/tiny"]) == 0
    assert calls == [{"folder": Path("runs/tiny"), "trust_remote_code": False}]
    capsys.readouterr()
    (folder / "pairs.jsonl").unlink()
    expected = "runs/tiny/recipe.yaml: data.files: pairs.jsonl does not exist; "
    assert error_line(capsys, ["resume", "runs/tiny"]).startswith(expected)


# Sample, evaluate, export, report, demo


def test_sample_shows_base_beside_tuned_as_plain_text(build, folder, capsys):
    calls: list[dict] = []
    texts = [("base", "A [red]dog[/red]."), ("tuned", "A cat.\x1b[2J"), ("base", "b2"), ("tuned", "t2")]
    answers = [(who, SimpleNamespace(text=text, value=None)) for who, text in texts]
    build.sample = recording(calls, answers)
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"")
    flags = ["--image", "a.png", "--image", "b.png", "--prompt", "What?", "--num", "2", "--temperature", "1"]
    assert main(["sample", "runs/tiny", *flags]) == 0
    assert calls == [
        {
            "target": "runs/tiny",
            "images": [Path("a.png"), Path("b.png")],
            "prompt": "What?",
            "temperature": 1.0,
            "max_tokens": 256,
            "seed": 0,
            "num": 2,
            "scorer": None,
        }
    ]
    out = capsys.readouterr().out
    assert "A [red]dog[/red]." in out
    assert r"A cat.\x1b[2J" in out
    assert [word for line in out.splitlines() for word in line.split() if word in ("b2", "t2")] == [
        "b2",
        "t2",
    ]


def test_evaluate_prints_intervals_and_writes_them(build, folder, capsys):
    calls: list[dict] = []
    found = {"describe": {"hallucination": Range(estimate=0.25, low=0.2, high=0.3)}}
    build.evaluate = recording(calls, found)
    assert main(["evaluate", "world:base", "--tasks", "describe", "--scenes", "50", "--json", "out.json"]) == 0
    expected = {
        "target": "world:base",
        "tasks": ["describe"],
        "split": "test",
        "scenes": 50,
        "batch_size": 64,
        "best_of": None,
    }
    assert calls == [expected]
    out = capsys.readouterr().out
    assert "0.250" in out
    assert "0.200 to 0.300" in out
    row = json.loads((folder / "out.json").read_text())
    assert row["tasks"] == {"describe": {"hallucination": {"estimate": 0.25, "low": 0.2, "high": 0.3}}}


def test_export_refuses_a_folder_that_holds_something(build, folder, capsys):
    calls: list[dict] = []
    build.export = recording(calls, Path("models/new"))
    Journal.create("runs/tiny", {"name": "tiny"}, {}).close()
    assert error_line(capsys, ["export", "runs/tiny", "runs"]).startswith("runs is there already; give a new name")
    assert error_line(capsys, ["export", "runs/tiny", "models/b", "--public"]).startswith("--public says who may see")
    assert error_line(capsys, ["export", "runs/tiny", "models/b", "--figures", "no"]) == "no does not exist"
    assert main(["export", "runs/tiny", "models/new", "--keep-adapter"]) == 0
    given = {"run": Path("runs/tiny"), "out": Path("models/new"), "figures": None, "push": None, "public": False}
    assert calls == [given | {"keep_adapter": True}]


def test_report_is_written_from_the_run_folder(folder, capsys):
    with Journal.create("runs/tiny", {"name": "tiny"}, {}) as journal:
        journal.metrics(1, {"loss/dpo": 0.5})
    assert main(["report", "runs/tiny"]) == 0
    assert capsys.readouterr().out == "runs/tiny/report.html\n"
    assert (folder / "runs" / "tiny" / "report.html").is_file()


def test_demo_hands_its_flags_on(build):
    calls: list[dict] = []
    build.demo = recording(calls)
    assert main(["demo", "--seed", "1", "--quick"]) == 0
    assert calls == [{"out": Path("runs/demo"), "seed": 1, "scenes": 2000, "quick": True}]


# Data, world, recipes


@pytest.fixture
def build_that_checks(build):
    def check_data(*, files, model, root, show, max_image_pixels, max_image_bytes):
        def store_for(file: Path) -> ImageStore:
            return ImageStore(root or file.parent, max_pixels=max_image_pixels, max_bytes=max_image_bytes)

        return check(files, store_for=store_for, show=show)

    build.check_data = check_data
    return build


def test_data_check_of_good_rows_counts_them(build_that_checks, capsys):
    assert main(["data", "check", "pairs.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "answers: 4, images: 0 (0 distinct)" in out
    assert "signals: 2 pair" in out


def test_bad_rows_are_one_line_each_and_exit_status_two_unless_skipped(build_that_checks, folder, capsys):
    lines = [
        group("1").to_json(),
        group("2", text="").to_json(),
        group("3", image=Image(path="../x.png")).to_json(),
    ]
    (folder / "pairs.jsonl").write_text("\n".join([*lines, "{"]) + "\n")
    assert main(["data", "check", "pairs.jsonl"]) == 2
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pairs.jsonl:")]
    assert [line.split(": ")[0] for line in bad] == ["pairs.jsonl:2", "pairs.jsonl:3", "pairs.jsonl:4"]
    assert main(["data", "check", "pairs.jsonl", "--on-bad", "skip"]) == 0


def test_data_is_converted_there_and_back(folder, capsys):
    assert main(["data", "convert", "pairs.jsonl", "pairs.parquet"]) == 0
    assert main(["data", "convert", "pairs.parquet", "again.jsonl"]) == 0
    assert capsys.readouterr().out == "2 groups in pairs.parquet\n2 groups in again.jsonl\n"
    assert [row for _, row in read_groups("again.jsonl")] == [group("1"), group("2")]
    (folder / "other").mkdir()
    assert main(["data", "convert", "pairs.jsonl", "other/pairs.jsonl"]) == 0
    assert "image paths are as they were: set data.root to . when" in capsys.readouterr().out


def test_world_commands_hand_their_flags_on(build, capsys):
    calls: list[dict] = []
    build.world_build = build.world_draw = build.world_groups = recording(calls, Path("there"))
    assert main(["world", "build", "--scale", "0.01", "--only", "clip"]) == 0
    assert main(["world", "draw", "--split", "crowd"]) == 0
    assert main(["world", "groups", "--task", "describe", "--out", "x.jsonl"]) == 0
    assert main(["world", "groups", "--task", "describe", "--out", "x.jsonl", "--exact"]) == 0
    assert calls.pop()["annotator"] is None
    assert calls == [
        {"out": Path("runs/world"), "seed": 0, "scale": 0.01, "only": "clip"},
        {"split": "crowd", "num": 8, "out": Path("runs/world/scenes"), "seed": 0},
        {
            "task": "describe",
            "split": "train",
            "num": 1000,
            "out": Path("x.jsonl"),
            "annotator": "person",
            "seed": 0,
        },
    ]
    assert capsys.readouterr().out == "there\n" * 4


def test_shipped_recipes_are_listed_shown_and_copied(folder, capsys):
    assert main(["recipes", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in recipe_names())
    assert main(["recipes", "show", "dpo_world"]) == 0
    shown = capsys.readouterr().out
    assert "sightline train recipes/dpo_world.yaml" in shown
    assert main(["recipes", "copy", "dpo_world", "mine.yaml"]) == 0
    assert (folder / "mine.yaml").read_text() == shown
    (folder / "sub").mkdir()
    assert main(["recipes", "copy", "dpo_world", "sub"]) == 0
    assert (folder / "sub" / "dpo_world.yaml").read_text() == shown
