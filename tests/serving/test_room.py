"""The room where requests wait: full batches, clients that leave, responders that err."""

import asyncio
import logging
import threading
from collections.abc import Sequence

import pytest

from sightline.records import Message
from sightline.serving import room as room_module
from sightline.serving.contract import Answer, ChatRequest, Failure
from sightline.serving.room import Room
from tests.serving.servers import saying, text_of


def request(text: str) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=(text,)),), max_tokens=5)


def texts(found: Sequence[Answer | Failure]) -> list[str | int]:
    return [one.status if isinstance(one, Failure) else one.choices[0].text for one in found]


def test_requests_are_answered_in_full_batches_in_one_thread():
    sizes: list[int] = []
    threads: set[int] = set()

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        sizes.append(len(requests))
        threads.add(threading.get_ident())
        return saying(text_of)(requests)

    async def ask() -> list[Answer | Failure]:
        room = Room(respond, max_batch=4)
        async with room.open():
            return await asyncio.gather(*(room.ask(request(str(number))) for number in range(10)))

    assert texts(asyncio.run(ask())) == [str(number) for number in range(10)]
    assert sizes == [4, 4, 2]
    assert len(threads) == 1


def test_a_client_that_left_is_not_answered_and_the_others_are():
    asked: list[str] = []

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        asked.extend(map(text_of, requests))
        return saying(text_of)(requests)

    async def ask() -> list[Answer | Failure]:
        room = Room(respond)
        async with room.open():
            leaving = asyncio.create_task(room.ask(request("leaves")))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0.05)  # a batch in which nobody is left
            return [await room.ask(request("stays"))]

    assert texts(asyncio.run(ask())) == ["stays"]
    assert asked == ["stays"]


@pytest.mark.parametrize("wrong", [lambda requests: [], lambda requests: 1 / 0])
def test_a_responder_that_errs_fails_its_batch_alone(wrong, caplog):
    async def ask() -> list[Answer | Failure]:
        room = Room(lambda requests: wrong(requests) if text_of(requests[0]) == "bad" else saying(text_of)(requests))
        async with room.open():
            return [await room.ask(request("bad")), await room.ask(request("good"))]

    with caplog.at_level(logging.CRITICAL, logger="sightline.serving"):
        assert texts(asyncio.run(ask())) == [500, "good"]


def test_one_bad_request_costs_nobody_else_an_answer(caplog):
    sizes: list[int] = []

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        sizes.append(len(requests))
        if any(text_of(request) in ("bad", "worse") for request in requests):
            raise RuntimeError("this request breaks the model")
        return saying(text_of)(requests)

    async def ask() -> list[Answer | Failure]:
        room = Room(respond, max_batch=8)
        async with room.open():
            return await asyncio.gather(*(room.ask(request(text)) for text in ("a", "b", "bad", "c", "d", "worse")))

    with caplog.at_level(logging.CRITICAL, logger="sightline.serving"):
        assert texts(asyncio.run(ask())) == ["a", "b", 500, "c", "d", 500]
    assert sizes[0] == 6


def test_a_full_room_says_so(monkeypatch):
    monkeypatch.setattr(room_module, "MAX_WAITING", 0)

    async def ask() -> Answer | Failure:
        room = Room(saying(text_of))
        async with room.open():
            return await room.ask(request("a"))

    found = asyncio.run(ask())
    assert isinstance(found, Failure)
    assert (found.status, found.retry_after) == (429, 1.0)
