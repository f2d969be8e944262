"""Gathers requests that arrive together and hands them to one responder in one thread: a model gets full batches.

Knows no HTTP. What the responder raises is told to everybody in the batch as a failure of the server, and logged.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from sightline.serving.contract import Answer, ChatRequest, Failure, Respond

GATHER_SECONDS = 0.005
MAX_WAITING = 4096
_log = logging.getLogger("sightline.serving")

_Seat = tuple[ChatRequest, asyncio.Future[Answer | Failure]]


class Room:
    """Where requests wait for their turn. State: the queue; use it inside `async with room.open()`."""

    def __init__(self, respond: Respond, *, max_batch: int = 32) -> None:
        """`respond` gets at most `max_batch` requests at a time."""
        self._respond = respond
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[_Seat] = asyncio.Queue()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Answer requests until the block is left; a batch that is being answered then is waited for."""
        with ThreadPoolExecutor(1, thread_name_prefix="responder") as thread:
            serving = asyncio.create_task(self._serve(thread))
            try:
                yield
            finally:
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    await serving

    async def ask(self, request: ChatRequest) -> Answer | Failure:
        """The answer to one request."""
        if self._waiting.qsize() >= MAX_WAITING:
            return Failure(status=429, message="too many requests wait already; try again later", retry_after=1.0)
        answered: asyncio.Future[Answer | Failure] = asyncio.get_running_loop().create_future()
        await self._waiting.put((request, answered))
        return await answered

    async def _serve(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            seats = [await self._waiting.get()]
            await asyncio.sleep(GATHER_SECONDS)
            while len(seats) < self._max_batch and not self._waiting.empty():
                seats.append(self._waiting.get_nowait())
            seats = [seat for seat in seats if not seat[1].cancelled()]  # the clients of the others left
            working = loop.run_in_executor(thread, self._answers, [request for request, _ in seats])
            await asyncio.wait([working])
            _hand_out(seats, working)

    def _answers(self, requests: list[ChatRequest]) -> list[Answer | Failure]:
        found = self._respond(requests) if requests else []
        assert len(found) == len(requests), "a responder answers every request"
        return found


def _hand_out(seats: list[_Seat], working: asyncio.Future[list[Answer | Failure]]) -> None:
    problem = working.exception()
    if problem is not None:
        _log.error("the responder failed on %d requests", len(seats), exc_info=problem)
        failure = Failure(status=500, message=f"the model failed ({type(problem).__name__}); the server's log says why")
        found: list[Answer | Failure] = [failure for _ in seats]
    else:
        found = working.result()
    for (_, answered), given in zip(seats, found, strict=True):
        if not answered.done():
            answered.set_result(given)
