"""doctor and plan on the command line: what they are given, what they print, how they exit."""

import sys
import types
from pathlib import Path

import pytest

import sightline
from sightline.build.estimates import Estimate, Lengths, Machine
from sightline.build.plan import Planned
from sightline.cli import main
from sightline.data.files import write_groups
from sightline.models.outline import Sizes, Stack
from sightline.records import Completion, Group, Message, Pair, Prompt
from sightline.reports.doctor_page import Line

RECIPE = """
name: tiny
model: {path: world:base}
data: {files: [pairs.jsonl]}
objective: {kind: dpo}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    prompt = Prompt(id="1", messages=(Message(role="user", content=("What is here?",)),))
    answers = (Completion(text="A star."), Completion(text="A circle."))
    write_groups(
        tmp_path / "pairs.jsonl", [Group(prompt=prompt, completions=answers, signals=(Pair(chosen=0, rejected=1),))]
    )
    return tmp_path


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stands where the heavy room stands."""
    stand_in = types.ModuleType("sightline.build")
    monkeypatch.setitem(sys.modules, "sightline.build", stand_in)
    monkeypatch.setattr(sightline, "build", stand_in, raising=False)
    return stand_in


def finding(*lines: Line, calls: list[dict]):
    def doctor(**given) -> list[Line]:
        calls.append(given)
        for line in lines:
            given["tell"](line)
        return list(lines)

    return doctor


def planned(*, memory: int | None) -> Planned:
    stack = Stack(width=8, mlp=16, layers=2, heads=2, kv_width=4, weights=100)
    sizes = Sizes(
        language=stack,
        tower=stack,
        vocabulary=10,
        context=99,
        patches_per_token=1,
        weight_bytes=400,
        trained=50,
        trained_matrices=True,
        trained_vision=False,
    )
    return Planned(
        machine=Machine(name="1 x a100", kind="cuda", rate=1e12, bandwidth=1e12, memory=memory, own=0),
        sizes=sizes,
        lengths=Lengths(prompt=9, image=4, answer=5, answers=2, spread=0, num_images=3, measured=8),
        estimate=Estimate(memory={"weights": 3 * 2**20, "kept features": 0}, peak=5 * 2**20, seconds={"images": 0.5}),
        num_steps=10,
        notes=("10 steps: about 5 seconds",),
    )


def test_the_doctor_tells_line_by_line_and_exits_with_the_verdict(room, capsys):
    calls: list[dict] = []
    well = Line(name="data", state="pass", said="1 row")
    ill = Line(name="picture is read", state="fail", said="it is not", cure="read it")
    room.doctor = finding(well, calls=calls)
    assert main(["doctor", "tiny.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "pass data            1 row",
        "page: runs/tiny-doctor.html",
        "nothing is wrong",
    ]
    room.doctor = finding(well, ill, calls=calls)
    assert main(["doctor", "tiny.yaml", "--page", "x.html", "--seed", "3"]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "FAIL picture is read it is not",
        "                     what to do: read it",
        "page: x.html",
        "1 of 2 checks failed",
    ]
    assert [call["page"] for call in calls] == [Path("runs/tiny-doctor.html"), Path("x.html")]
    assert calls[1]["recipe"].seed == 3


def test_the_plan_is_a_table_of_parts_and_exits_with_whether_it_fits(room, capsys):
    calls: list[dict] = []

    def plan(**given) -> Planned:
        calls.append(given)
        return planned(memory=2**30 if len(calls) == 1 else 2**20)

    room.plan = plan
    assert main(["plan", "tiny.yaml", "--gpus", "2", "--gpu", "a100", "--answer-tokens", "7"]) == 0
    out = capsys.readouterr().out
    assert [word for word in ("weights", "at the peak", "a step", "10 steps: about 5 seconds") if word not in out] == []
    assert "kept features" not in out
    given = {name: value for name, value in calls[0].items() if name != "recipe"}
    assert given == {"gpus": 2, "gpu": "a100", "prompt_tokens": None, "answer_tokens": 7}
    assert main(["plan", "tiny.yaml"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("doctor", "no recipe is named; `sightline recipes list` shows those that are shipped"),
        ("doctor tinny.yaml", "tinny.yaml: no such recipe; did you mean tiny.yaml?"),
        ("doctor tiny.yaml --pge x", "unknown option --pge"),
        ("doctor tiny.yaml --page .", "--page: . is a folder; name a file"),
        (
            "doctor tiny.yaml --data.files [pair.jsonl]",
            "tiny.yaml: data.files: pair.jsonl does not exist; did you mean pairs.jsonl?",
        ),
        (
            "plan tiny.yaml --data.files [pair.jsonl]",
            "tiny.yaml: data.files: pair.jsonl does not exist; did you mean pairs.jsonl?; without the files give "
            "--prompt-tokens, --answer-tokens and --train.steps",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_two(arguments: str, said: str, room, capsys):
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"sightline: error: {said}")
