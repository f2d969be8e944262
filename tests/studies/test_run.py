"""A whole study in a folder: made once, gone on with after a stop, refused when something else stands there."""

import json
from pathlib import Path

import pytest

from sightline import build
from sightline.cli import main
from sightline.config import ConfigError
from sightline.data.files import read_groups
from sightline.journal import Journal
from sightline.studies.run import run_study
from tests.studies.small import small_study


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    run_study(small_study(), out=out, say=lambda line: None)
    return out


def test_a_study_leaves_files_runs_answers_and_a_report(done: Path):
    assert len(list(read_groups(done / "prompts.jsonl"))) == 8
    pairs = [group for _, group in read_groups(done / "pairs-0.jsonl")]
    assert all(group.signals for group in pairs)
    for name in ("dpo-0", "sft-0"):
        assert Journal.open(done / "runs" / name).read_status()["state"] == "done"
        answers = json.loads((done / "answers" / f"{name}.json").read_text())
        assert len(answers["greedy"]["describe"]) == 6
    results = json.loads((done / "results.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["base", "dpo", "sft"]
    dpo, sft = results["rows"][1:]
    assert dpo["cost"]["steps"] == 2
    assert dpo["cost"]["labels"] == sum(len(group.completions) for _, group in read_groups(done / "samples-0.jsonl"))
    assert sft["cost"]["tokens"] == pytest.approx(dpo["cost"]["tokens"], rel=0.5)
    assert results["answer"] in (done / "tables.md").read_text()
    assert "Which is better?" in (done / "report.html").read_text()


def test_what_is_left_to_the_machine_is_settled_once_for_all_runs(done: Path):
    kept = json.loads((done / "machine.json").read_text())
    for name in ("dpo-0", "sft-0"):
        recipe = Journal.open(done / "runs" / name).recipe()
        assert recipe["model"]["dtype"] == kept["dtype"]
        assert recipe["train"]["one_thread_below"] == kept["one_thread_below"]


def test_a_study_goes_on_in_the_arithmetic_it_began_with(tmp_path: Path):
    other = {"dtype": "float32", "one_thread_below": 0.0}
    for number, dtype in enumerate(("float32", "bfloat16")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "machine.json").write_text(json.dumps(other | {"dtype": dtype}))
        run_study(small_study(arms={"one": {}}), out=folder, say=lambda line: None)
        assert Journal.open(folder / "runs" / "one-0").recipe()["model"]["dtype"] == dtype


def test_what_is_finished_is_not_made_again(done: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(build, "train", refuse)
    monkeypatch.setattr(build, "sample_groups", refuse)
    said: list[str] = []
    before = (done / "results.json").read_bytes()
    run_study(small_study(), out=done, say=said.append)
    assert not said
    assert (done / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"arms": {"dpo": {"recipe": {"objective": {"beta": 0.9}}}}}, "was run with another recipe .*beta is 0.9"),
        ({"scale": 0.5}, "samples-0.jsonl was made by another description; give the changed study a folder"),
    ],
)
def test_a_study_that_changed_is_refused_where_the_old_one_stands(done: Path, changes: dict, problem: str):
    with pytest.raises(ConfigError, match=problem):
        run_study(small_study(**changes), out=done, say=lambda line: None)


def test_a_study_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, times = build.train, []

    def stops_once(*given: object, **named: object) -> Path:
        times.append(1)
        if len(times) == 2:
            raise KeyboardInterrupt
        return real(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "train", stops_once)
    study = small_study(arms={"one": {}, "two": {}})
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=tmp_path, say=lambda line: None)
    assert not (tmp_path / "results.json").exists()
    run_study(study, out=tmp_path, say=lambda line: None)
    assert len(times) == 3
    assert (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_two_at_once_find_what_one_after_another_finds(tmp_path: Path):
    study = small_study(arms={"one": {}, "two": {"recipe": {"objective": {"kind": "sft"}}}})
    for jobs in (1, 2):
        run_study(study, out=tmp_path / str(jobs), say=print, jobs=jobs)
    one, two = (json.loads((tmp_path / str(jobs) / "results.json").read_text()) for jobs in (1, 2))
    for mine, theirs in zip(one["rows"], two["rows"], strict=True):
        assert mine["figures"] == theirs["figures"]


def test_the_command_lists_plans_and_refuses(capsys: pytest.CaptureFixture[str]):
    assert main(["study"]) == 0
    assert "dpo-vs-rl" in capsys.readouterr().out
    assert main(["study", "kl", "--quick", "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "ppo-0.05" in planned
    assert "runs/studies/kl-quick" in planned
    assert main(["study", "klo"]) == 2
    assert "did you mean kl" in capsys.readouterr().err
    assert main(["study", "kl", "--quik"]) == 2
    assert "did you mean --quick" in capsys.readouterr().err
