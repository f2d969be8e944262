"""`sightline judge` and `sightline serve`, by their exit status, what they print, and what a new user gets wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.cli import main
from sightline.data.files import read_groups, write_groups
from sightline.serving.contract import Failure
from sightline.serving.misbehave import REFUSAL
from tests.build.oracle import Oracle, described
from tests.serving.servers import MODEL, saying, serving

GROUPS = described(6)
JUDGE = """
name: mine
judge: {{kind: endpoint, base_url: "{url}", model: scripted, backoff: 0.01}}
protocol: {{kind: pairwise}}
self_agreement: 1.0
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Oracle(GROUPS).respond) as found:
        yield found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("SIGHTLINE_TRACEBACK", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "mine.yaml").write_text(JUDGE.format(url=url))
    write_groups(tmp_path / "groups.jsonl", GROUPS)
    return tmp_path


def error_line(capsys: pytest.CaptureFixture[str], *words: str, status: int = 2) -> str:
    """Run a command that must end in one line on stderr, and give the line without its head."""
    assert main(list(words)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sightline: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("sightline: error: ").rstrip("\n")


def judge_error(capsys: pytest.CaptureFixture[str], *overrides: str, status: int = 2) -> str:
    words = ("judge", "--source", "groups.jsonl", "--judge", "mine.yaml", "--out", "out.jsonl")
    return error_line(capsys, *words, *overrides, status=status)


@pytest.mark.parametrize("command", ["judge", "serve"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--help"]) == 0
    assert f"Example: sightline {command} " in " ".join(capsys.readouterr().out.split())
    assert main([]) == 0
    assert f"│ {command} " in capsys.readouterr().out


def test_judging_prints_how_far_the_judge_can_be_trusted(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["judge", "--source", "groups.jsonl", "--judge", "mine.yaml", "--out", "out.jsonl", "--json", "sum.json"]
    assert main(words) == 0
    out = capsys.readouterr().out
    found = json.loads((folder / "sum.json").read_text())
    lines = {" ".join(line.split()) for line in out.splitlines()}
    asked = f"{found['questions']} about 6 groups: {found['asked']} asked now; {found['requests']} requests, 0 of them"
    assert f"questions {asked} retries" in lines
    assert f"replies {found['questions']} read, 0 malformed, 0 refused, 0 missing" in lines
    assert "position bias the first place wins 50.0% (50.0% to 50.0%) of decided comparisons; 50% is none" in lines
    assert "self-agreement 100.0% (100.0% to 100.0%) of the questions that were asked twice" in lines
    assert (
        f"agrees with rules 100.0% (100.0% to 100.0%) of {found['compared']['rules']} pairs that both decide" in lines
    )
    assert "out.jsonl" in lines
    assert found["agreement"]["rules"]["estimate"] == 1.0
    assert len(list(read_groups("out.jsonl"))) == 6


def test_kinds_of_failures_are_told_and_how_to_go_on(folder: Path, capsys: pytest.CaptureFixture[str]):
    num: list[int] = []

    def speak(request: object) -> str | Failure:
        num.append(1)
        return ("Verdict: tie", "Well.", REFUSAL, Failure(status=500, message="no"))[(len(num) - 1) % 4]

    with serving(saying(speak)) as url:
        words = ["judge", "--source", "groups.jsonl", "--judge", "mine.yaml", "--out", "out.jsonl"]
        assert main([*words, f"judge.base_url={url}", "judge.retries=0", "judge.concurrency=1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "malformed (" in out
    assert "no verdict), " in out
    assert "left out " in out
    assert f"questions got no reply, the last because {url} answers 500 (no)" in out
    assert "the same command asks these again, and nothing else" in out


def test_a_dry_run_prints_the_resolved_judge(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["judge", "--judge", "judges/vlfeedback", "--dry-run", "judge.model=x"]) == 0
    text = capsys.readouterr().out
    assert "model: x" in text
    assert "cache: runs/judges/vlfeedback" in text
    (folder / "copy.yaml").write_text(text)
    assert main(["judge", "--judge", "copy.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == text


def test_shipped_judges_are_listed_shown_and_copied(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"judges/{name} " in listed for name in ("pairwise", "vlfeedback", "rlaif_v_world"))
    assert main(["recipes", "show", "judges/pairwise"]) == 0
    shown = capsys.readouterr().out
    assert main(["recipes", "copy", "judges/pairwise", "own.yaml"]) == 0
    assert (folder / "own.yaml").read_text() == shown
    assert "judge it with" not in shown
    assert "`sightline judge --judge own.yaml`" in capsys.readouterr().out


# As a new user would


def test_no_key(capsys: pytest.CaptureFixture[str]):
    assert judge_error(capsys, "judge.api_key_env=OPENAI_API_KEY") == (
        "mine.yaml: judge.api_key_env: the environment variable OPENAI_API_KEY is not set; export OPENAI_API_KEY=... "
        "with your key, or set judge.api_key_env to null for a server without keys"
    )


def test_a_wrong_base_url(url: str, capsys: pytest.CaptureFixture[str]):
    said = judge_error(capsys, "judge.base_url=http://127.0.0.1:9/v1")
    assert said.startswith("http://127.0.0.1:9/v1 cannot be reached (")
    assert said.endswith("; check judge.base_url (it usually ends in /v1), and that the server runs")
    said = judge_error(capsys, f"judge.base_url={url.removesuffix('/v1')}")
    assert said.endswith("; correct judge.base_url, which usually ends in /v1")
    said = judge_error(capsys, "judge.model=other")
    assert said == (
        f"{url} answers 404 (the model 'other' does not exist; this server has scripted); correct judge.model, "
        "which is 'other'"
    )


def test_a_judge_that_refuses(capsys: pytest.CaptureFixture[str]):
    with serving(saying(lambda request: REFUSAL)) as url:
        said = judge_error(capsys, f"judge.base_url={url}", status=1)
    assert said.startswith("judge mine: ")
    assert said.endswith(
        f' replies decline to judge, such as "{REFUSAL}"; ask another model, or word the template otherwise'
    )


def test_an_endpoint_without_images(capsys: pytest.CaptureFixture[str]):
    blind = Failure(status=400, message="image_url is only supported by certain models")
    with serving(saying(lambda request: blind)) as url:
        said = judge_error(capsys, f"judge.base_url={url}")
    assert said == (
        f"{url} answers 400 (image_url is only supported by certain models); model '{MODEL}' seems to take no "
        "pictures: name one that sees, or check how it is served"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("judge", "Command \"judge\" parameter --judge requires an argument."),
        ("judge --judge mine.yaml", "judge: --source and --out are needed; name the groups to judge and the file"),
        ("judge --judge mine.yaml --source group.jsonl --out o.jsonl", "group.jsonl does not exist; did you mean"),
        ("judge --judge min.yaml --source groups.jsonl --out o.jsonl", "min.yaml: no such recipe; did you mean mi"),
        ("judge --judge mine.yaml --dry-run judge.modle=x", "command line: judge.modle: unknown key; did you"),
        ("judge --judge mine.yaml --source groups.jsonl --out o.csv", "o.csv: ends in '.csv'; data files are .jsonl"),
        ("serve", "Command \"serve\" parameter TARGET requires an argument."),
        ("serve world:base --port 70000", 'Invalid value "70000" for --port. Must be <= 65535.'),
        ("serve world:base --misbehave {", "--misbehave is not JSON"),
        ("serve world:base --misbehave 3", "--misbehave is 3; give a JSON object, such as "),
        ('serve world:base --misbehave {"eror":1}', "misbehave: there is no 'eror'; did you mean errors?"),
        ("serve world:bose --port 0", "there is no embedded model 'world:bose'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(words: str, says: str, capsys: pytest.CaptureFixture[str]):
    assert error_line(capsys, *words.split()).startswith(says)


@pytest.mark.parametrize(
    ("words", "missing", "extra"),
    [
        ("judge --judge mine.yaml --source groups.jsonl --out o.jsonl", "openai", "judge"),
        ("serve world:base", "uvicorn", "serve"),
    ],
)
def test_without_the_extra_one_sentence_says_what_to_install(folder: Path, words: str, missing: str, extra: str):
    hide = (
        "import sys, importlib.util as u; real = u.find_spec; "
        f"u.find_spec = lambda name, *rest: None if name == '{missing}' else real(name, *rest); "
        f"sys.modules['{missing}'] = None; sys.modules['torch'] = None; "
        f"from sightline.cli import main; sys.exit(main({words.split()!r}))"
    )
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip().endswith(f"run `pip install 'sightline[{extra}]'`")
