"""The command `chat` over a pipe: lines in, answers out, words with a slash, and mistakes in one line."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightline.build.loading import Trusted
from sightline.build.talk import Said
from sightline.cli import main
from sightline.cli import talk as talk_module
from sightline.cli.talk import converse
from sightline.journal import Journal
from tests.tiny import png


class Talk:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self, said: list[Said] | BaseException) -> None:
        self.speakers = [SimpleNamespace(name="base"), SimpleNamespace(name="tuned")]
        self.said, self.asked, self.pictures, self.anew = said, [], [], 0

    def ask(self, question: str) -> list[Said]:
        self.asked.append((question, len(self.pictures)))
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said

    def start_anew(self) -> None:
        self.anew += 1
        self.pictures = []


ANSWERS = [Said(name="base", text="A dog."), Said(name="tuned", text="A [red]cat\x1b[2J", cut=True)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.png").write_bytes(png(1))
    (tmp_path / "no picture.png").write_bytes(b"text")
    return tmp_path


def test_lines_are_answered_in_turn_until_the_pipe_ends(capsys: pytest.CaptureFixture[str]):
    talk = Talk(ANSWERS)
    converse(talk, iter(["What?\n", "\n", "  And now?  \n"]), live=False)  # type: ignore[arg-type]
    assert talk.asked == [("What?", 0), ("And now?", 0)]
    assert capsys.readouterr().out == "base: A dog.\ntuned: A [red]cat\\x1b[2J [cut at --max-tokens]\n" * 2


def test_words_with_a_slash_are_for_the_command(capsys: pytest.CaptureFixture[str]):
    talk = Talk([])
    converse(talk, iter(["/image scene.png", "What?", "/new", "/help", "/quit", "never asked"]), live=False)  # type: ignore[arg-type]
    assert talk.asked == [("What?", 1)]
    assert talk.anew == 1
    assert "/image FILE: show a picture with the next question" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/image", "/image names no file; write /image FILE"),
        ("/image scene.pgn", "scene.pgn does not exist; did you mean scene.png?"),
        ("/image no picture.png", "no picture.png: is not an image that is read here; use one of PNG"),
        ("/imge scene.png", "there is no /imge; did you mean /image?"),
    ],
)
def test_a_mistake_ends_a_pipe_and_is_told_to_people(line: str, says: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        converse(Talk([]), iter([line]), live=False)  # type: ignore[arg-type]
    talk = Talk(ANSWERS)
    converse(talk, iter([line, "What?"]), live=True)  # type: ignore[arg-type]
    assert says in capsys.readouterr().out
    assert talk.asked == [("What?", 0)]


def test_a_question_without_an_answer_ends_a_pipe_and_is_told_to_people(capsys: pytest.CaptureFixture[str]):
    problem = [Said(name="model", text="", problem="is too long; shorten it")]
    with pytest.raises(ValueError, match="model: is too long; shorten it"):
        converse(Talk(problem), iter(["What?"]), live=False)  # type: ignore[arg-type]
    converse(Talk(problem), iter(["What?"]), live=True)  # type: ignore[arg-type]
    assert "model: no answer: is too long; shorten it" in capsys.readouterr().out


def test_ctrl_c_gives_up_an_answer_and_ends_a_pipe(capsys: pytest.CaptureFixture[str]):
    talk = Talk(KeyboardInterrupt())
    converse(talk, iter(["What?", "And?"]), live=True)  # type: ignore[arg-type]
    assert len(talk.asked) == 2
    assert "the answer is given up; Ctrl-D leaves" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        converse(Talk(KeyboardInterrupt()), iter(["What?"]), live=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_ctrl_c_and_ctrl_d_at_the_prompt_are_an_end(end: type[BaseException], monkeypatch: pytest.MonkeyPatch):
    given = iter(["Hello"])

    def asked(prompt: str) -> str:
        for line in given:
            return line
        raise end

    stdin = io.StringIO()
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr("builtins.input", asked)
    assert list(talk_module._lines()) == ["Hello"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("chat world:bse", "there is no embedded model 'world:bse'"),
        ("chat world:base --image scene.pgn", "scene.pgn does not exist; did you mean scene.png?"),
        ("chat world:base --image textfile.png", "textfile.png does not exist"),
        ("chat run", "run has no checkpoint yet"),
    ],
)
def test_names_are_checked_before_torch_is_imported(words: str, says: str, folder: Path):
    Journal.create("run", {"name": "tiny"}, {}).close()
    code = f"import sys; sys.modules['torch'] = None; from sightline.cli import main; sys.exit(main({words.split()!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_flags_reach_the_talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    given: list[dict[str, object]] = []

    def opening(**options: object) -> Talk:
        given.append(options)
        return Talk(ANSWERS[:1])

    monkeypatch.setattr("sightline.build.talk.open_talk", opening)
    monkeypatch.setattr(sys, "stdin", io.StringIO("What?\n"))
    assert main(["chat", "world:base", "--no-base", "--temperature", "0.5", "--top-p", "0.9", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "base: A dog.\n"
    wanted = {"target": "world:base", "base": False, "temperature": 0.5, "top_p": 0.9, "max_tokens": 256, "seed": 3}
    assert given == [wanted]
    assert not isinstance(given[0]["target"], Trusted)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["chat", "world:base", "--trust-remote-code"]) == 0
    assert isinstance(given[1]["target"], Trusted)
