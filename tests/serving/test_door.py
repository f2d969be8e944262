"""Connections that only stand there: bounded in number and in time, while others are answered."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sightline.serving.app import make_app
from sightline.serving.contract import Answer, ChatRequest, Choice
from sightline.serving.door import FULL, Patience
from sightline.serving.wire import Limits
from tests.serving.servers import MODEL, running, saying

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@contextmanager
def door(
    speak: Callable[[ChatRequest], str | Answer] = lambda request: "fine",
    *,
    limits: Limits | None = None,
    **patience: float,
) -> Iterator[int]:
    """The port of a server with this patience."""
    app = make_app(saying(speak), model=MODEL, limits=limits)
    with running(app, patience=Patience(**patience)) as url:  # type: ignore[arg-type]
        yield int(url.rpartition(":")[2].removesuffix("/v1"))


def connected(port: int, data: bytes = b"") -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=20)
    found.sendall(data)
    return found


def rest(connection: socket.socket) -> bytes:
    """What still comes until the other side closes."""
    found = b""
    try:
        while more := connection.recv(2**16):
            found += more
    except ConnectionResetError:
        pass
    return found


def ask(text: str = "Hello", **headers: str) -> bytes:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()
    given = {"host": "x", "content-type": "application/json", "content-length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body


def test_whoever_sends_no_whole_head_is_shown_out():
    with door(head_seconds=0.2) as port:
        for start in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"):
            with connected(port, start) as waiting:
                assert rest(waiting) == b""


def test_the_time_for_a_head_is_not_that_for_an_answer():
    def slow(request: ChatRequest) -> Answer:
        return Answer(choices=(Choice(text="at last"),), seconds=1.0)

    with door(slow, head_seconds=0.3) as port, connected(port, ask(connection="close")) as waiting:
        assert b"at last" in rest(waiting)


def test_a_second_head_that_never_ends_is_shown_out_too():
    with door(head_seconds=0.3) as port, connected(port, ask() + b"GET /health HTTP/1.1\r\n") as waiting:
        assert rest(waiting).count(b"HTTP/1.1 200") == 1


def test_when_the_house_is_full_the_oldest_idle_one_makes_room():
    with door(connections=3) as port:
        idle = [connected(port) for _ in range(5)]
        with connected(port, HEALTH) as asking:
            assert b"200 OK" in rest(asking)
        assert [rest(idle[number]) for number in range(3)] == [b"", b"", b""]
        idle[4].sendall(HEALTH)
        assert b"200 OK" in rest(idle[4])
        for one in idle:
            one.close()


def test_where_everybody_is_being_answered_a_newcomer_is_told_to_come_later():
    begun, go_on = threading.Event(), threading.Event()

    def speak(request: ChatRequest) -> str:
        begun.set()
        assert go_on.wait(20)
        return "fine"

    with door(speak, connections=1) as port, connected(port, ask(connection="close")) as answered:
        assert begun.wait(20)
        with connected(port) as late:
            told = rest(late)
        go_on.set()
        assert b"fine" in rest(answered)
    head, _, body = told.partition(b"\r\n\r\n")
    assert told == FULL
    assert int(head.partition(b"content-length: ")[2]) == len(body)
    assert json.loads(body)["error"]["message"] == "too many requests are open; try again later"


def test_whoever_does_not_take_an_answer_is_shown_out():
    with (
        door(lambda request: "x" * 50_000_000, connections=1, taking_seconds=0.2) as port,
        connected(port, ask(connection="close")) as deaf,
    ):
        for _ in range(200):
            with connected(port, HEALTH) as asking:
                if b"200 OK" in rest(asking):
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("the deaf one is still inside")
        assert len(rest(deaf)) < 50_000_000


def test_a_body_that_never_ends_is_given_up_with_a_sentence():
    with (
        door(limits=Limits(body_seconds=0.2)) as port,
        connected(port, ask(**{"content-length": "5000"})) as waiting,
    ):
        told = rest(waiting)
    assert b"408" in told.partition(b"\r\n")[0]
    assert b"the request could not be read in time; send less, or faster" in told


def test_large_requests_that_wait_are_bounded_together():
    begun, go_on = threading.Event(), threading.Event()

    def speak(request: ChatRequest) -> str:
        begun.set()
        assert go_on.wait(20)
        return "fine"

    with (
        door(speak, limits=Limits(max_waiting_bytes=15_000)) as port,
        connected(port, ask("x" * 10_000, connection="close")) as first,
    ):
        assert begun.wait(20)
        with connected(port, ask("x" * 10_000, connection="close")) as second:
            told = rest(second)
        go_on.set()
        assert b"fine" in rest(first)
        with connected(port, ask("x" * 10_000, connection="close")) as third:
            assert b"fine" in rest(third)
    assert b"503" in told.partition(b"\r\n")[0]
    assert b"too many large requests wait already; try again later" in told
