"""Endpoints that mean harm, or are broken: every question ends as a reply or a problem, in bounded bytes and time."""

import gzip
import json
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.journal import RunFailed
from sightline.records import Message
from sightline.rewards import endpoint as endpoint_module
from sightline.rewards.ask import Question, Reply, asking
from sightline.rewards.endpoint import Endpoint, EndpointSettings, read_response
from sightline.rewards.endpoint_trouble import EndpointError, short
from sightline.rewards.kept_answers import KeptAnswers
from sightline.rewards.masking import masked, secrets_of, shown_url
from tests.rewards.hostile_server import Behaviour, answering, http, said, slowly

GOOD = http(said("fine"))
KEY = "sk-SECRET-123"
QUICK = EndpointSettings(base_url="", model="m", backoff=0.01, timeout=0.5, retries=0, concurrency=2)


def question(text: str) -> Question:
    return Question(messages=(Message(role="user", content=(text,)),), max_tokens=9)


def answers(settings: EndpointSettings, *questions: Question) -> list[Reply]:
    """A reply to every question; none vanishes."""
    with closing(Endpoint(settings, api_key=KEY)) as endpoint:
        found = dict(one for some in endpoint(questions) for one in some)
    assert sorted(found) == list(range(len(questions)))
    return [found[number] for number in range(len(questions))]


def second_reply(behaviour: Behaviour, **options: object) -> Reply:
    """What becomes of the second of three questions when the server behaves so then, and answers the others."""
    with answering(GOOD, behaviour, GOOD) as url:
        settings = replace(QUICK, base_url=url, concurrency=1, **options)
        first, second, third = answers(settings, *(question(str(number)) for number in range(3)))
    assert (first.text, third.text) == ("fine", "fine")
    return second


def problem_of(behaviour: Behaviour, **options: object) -> str:
    problem = second_reply(behaviour, **options).problem
    assert problem is not None
    assert "\n" not in problem
    assert len(problem) < 400
    return problem


# Bounded in seconds: each of these would answer in the end


def test_a_byte_now_and_then_buys_no_time():
    assert "did not answer in time" in problem_of(slowly(GOOD, at_once=2, pause=0.1))


def test_one_continue_after_another_buys_no_time():
    going_on = slowly(b"HTTP/1.1 100 Continue\r\n\r\n" * 200 + GOOD, at_once=25, pause=0.05)
    assert "did not answer in time" in problem_of(going_on)


def test_a_server_that_never_reads_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        settings = replace(QUICK, base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")
        with pytest.raises(EndpointError, match="did not answer in time"):
            answers(settings, question("x" * 20_000_000))


# Bounded in bytes: each of these is a good answer in a great many blanks


def test_an_endless_body_is_given_up():
    body = (said("fine") + " " * 64 * 2**20).encode()
    assert "answers with more than 4 MiB" in problem_of(http(body), timeout=20.0)


def test_a_gzip_bomb_is_given_up():
    body = gzip.compress((said("fine") + " " * 64 * 2**20).encode())
    assert "answers with more than 4 MiB" in problem_of(http(body, content_encoding="gzip"), timeout=20.0)


def test_a_packed_answer_that_was_not_asked_for_is_read():
    packed = gzip.compress(said("packed").encode())
    assert second_reply(http(packed, content_encoding="gzip")).text == "packed"


@pytest.mark.parametrize(
    ("encoding", "says"),
    [("gzip", "a body that cannot be unpacked"), ("br", "a body in an encoding that was not asked for")],
)
def test_a_body_in_an_odd_encoding_is_a_problem(encoding: str, says: str):
    assert f"answers with {says}" in problem_of(http("hello", content_encoding=encoding))


def test_of_an_endless_error_the_beginning_is_read():
    assert problem_of(http("no " + "x" * 64 * 2**20, "400 Bad"), timeout=20.0).endswith("xxx...)")


# Odd answers that the client, or we, would stumble over


@pytest.mark.parametrize("charset", ["zlib", "hex", "undefined", "idna", "no-such-thing", "rot13"])
@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "500 Oops"])
def test_odd_charsets_change_nothing(charset: str, status: str):
    found = second_reply(http(said("fine"), status, content_type=f"text/html; charset={charset}"))
    if status.startswith("200"):
        assert found.text == "fine"
    else:
        assert f"answers {status[:3]}" in (found.problem or "")


NEVER = ("1e400", "9" * 400, "31536000")


@pytest.mark.parametrize("name", ["retry_after", "retry_after_ms"])
@pytest.mark.parametrize(
    "after",
    [
        *NEVER, "-5", "nan", "soon", "", "Mon, 01 Jan 2024 00:00:00 +99999999999999999",
        "Mon, 01 Jan 0000 00:00:00 GMT", "Mon, 32 Foo 2024 99:99:99 GMT", "Mon, 01 Jan 2024 00:00:00 GMT",
    ],
)  # fmt: skip
def test_odd_waits_lose_no_question(after: str, name: str):
    with answering(GOOD, http("{}", "429 Slow", **{name: after}), GOOD) as url:
        settings = replace(QUICK, base_url=url, concurrency=1, retries=1)
        found = answers(settings, *(question(str(number)) for number in range(3)))
    assert found[1].text == (None if after in NEVER else "fine")


@pytest.mark.parametrize("digits", [400, 4000, 5000])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_usage_of_many_digits_is_no_completion(digits: int, name: str):
    body = said("fine", usage={name: 5}).replace(": 5", ": " + "9" * digits)
    assert "no chat completion" in problem_of(http(body))


@pytest.mark.parametrize(
    "behaviour",
    [
        b"", b"hello\r\n\r\n", bytes(range(256)) * 4, b"HTTP/1.1 204 No Content\r\n\r\n",
        http("{}", content_length="-1"), http(said("fine"), content_length="10"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}", http("x", "999 Odd"),
        http("{}", x="y" * 2**20), http("[" * 200_000), http("[" * 100_000, "400 Bad"), http("NaN"),
        http('{"error": {"code": [1], "message": [2]}}', "400 Bad"), http('{"error": [1]}', "500 Oops"),
    ],
    ids=str.__call__,
)  # fmt: skip
def test_what_is_no_answer_is_a_problem_and_no_question_vanishes(behaviour: bytes):
    problem_of(behaviour)


def test_what_the_client_itself_raises_is_told_as_the_problem_of_one_question(monkeypatch: pytest.MonkeyPatch):
    def stumbling(content: bytes, secrets: Sequence[str]) -> Reply | None:
        if b"stumble" in content:
            raise OverflowError(f"over {KEY}")
        return read_response(content, secrets)

    monkeypatch.setattr(endpoint_module, "read_response", stumbling)
    problem = problem_of(http(said("stumble")))
    assert problem.endswith("answers with what cannot be read (OverflowError: over ***)")


def test_redirects_are_told_and_not_followed():
    followed: list[socket.socket] = []
    with answering(followed.append) as other:
        moved = http("", "307 Temporary Redirect", location=f"{other}/chat/completions")
        assert f"answers 307 (moved to {other}/chat/completions)" in problem_of(moved)
        with answering(moved) as url, pytest.raises(EndpointError, match=r"moved to .*; correct judge.base_url"):
            answers(replace(QUICK, base_url=url), question("a"))
    assert followed == []


# Nothing secret is shown


def test_a_key_is_masked_before_its_sentence_is_cut():
    for num in range(150, 210):
        told = problem_of(http(json.dumps({"error": {"message": "x" * num + KEY}}), "400 Bad"))
        assert KEY[:4] not in told


def test_a_key_in_an_answer_is_not_kept():
    assert second_reply(http(said(f"your key is {KEY}"))).text == "your key is ***"


@pytest.mark.parametrize("server", [http("no", "404 Not Found"), http("nobody:pass-word", "401 No"), b""])
def test_a_password_in_the_address_is_shown_nowhere(server: bytes):
    with answering(server) as url:
        secret = url.replace("http://", "http://nobody:pass%2Dword@") + "?token=abcdefgh"
        with pytest.raises(EndpointError) as caught:
            answers(replace(QUICK, base_url=secret), question("a"))
    assert not any(part in str(caught.value) for part in ("pass%2Dword", "pass-word", "abcdefgh"))
    assert str(caught.value).startswith("http://***@127.0.0.1:")


def test_addresses_are_shown_without_their_secrets():
    shown = {
        "http://127.0.0.1:8000/v1": "http://127.0.0.1:8000/v1",
        "https://me:secret@host:1/v1?key=abc": "https://***@host:1/v1?***",
        "https://token@host": "https://***@host",
    }
    assert {url: shown_url(url) for url in shown} == shown
    assert secrets_of("https://me:secret@host:1/v1?key=abc", KEY) == (KEY, "me:secret", "key=abc", "secret")
    assert masked(f"{KEY} me:secret secret", secrets_of("https://me:secret@host")) == f"{KEY} *** ***"


def test_quoting_a_million_marks_takes_no_square():
    assert short("<" * 1_000_000, ()).startswith("<<<")
    assert short("<b>no</b> " + "x" * 1_000_000, ()) == "no " + "x" * 194 + "..."


# A judge that dies in the middle


def judged(url: str, folder: Path, num: int) -> tuple[list[Reply], int]:
    """Replies to so many questions, kept in the folder, and how many requests that took."""
    settings = replace(QUICK, base_url=url, concurrency=1)
    with KeptAnswers(folder) as kept, closing(Endpoint(settings)) as endpoint:
        found = asking(endpoint, kept, who="m")([question(str(number)) for number in range(num)])
        return found, endpoint.usage.requests


def test_questions_that_failed_are_asked_again_and_those_that_were_answered_are_not(tmp_path: Path):
    bad = http("{}", "503 Later")
    with answering(GOOD, bad, GOOD, bad, GOOD) as url:
        first, _ = judged(url, tmp_path, 6)
    assert [reply.text for reply in first] == ["fine", None, "fine", None, "fine", "fine"]
    with answering(GOOD) as url:
        second, num_requests = judged(url, tmp_path, 6)
    assert [reply.cached for reply in second] == [True, False, True, False, True, True]
    assert num_requests == 2


def test_a_server_that_turns_hostile_ends_the_run_and_what_was_answered_is_kept(tmp_path: Path):
    with (
        answering(GOOD, GOOD, GOOD, b"hello\r\n\r\n") as url,
        pytest.raises(RunFailed, match="questions in a row; when it is up again, the same command goes on"),
    ):
        judged(url, tmp_path, 100)
    with answering(GOOD) as url:
        found, num_requests = judged(url, tmp_path, 100)
    assert [reply.text for reply in found] == ["fine"] * 100
    assert num_requests == 97
