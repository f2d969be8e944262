"""Gathers requests that arrive together and hands them to one responder in one thread: a model gets full batches.

Knows no HTTP. When the responder raises, its batch is halved until the request that it fails on is alone: that one is
told of a failure of the server, which is logged, and the others get their answers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
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
            for (_, answered), given in zip(seats, working.result(), strict=True):
                if not answered.done():
                    answered.set_result(given)

    def _answers(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        if not requests:
            return []
        try:
            found = self._respond(requests)
            assert len(found) == len(requests), "a responder answers every request"
            return found
        except Exception as error:  # noqa: BLE001 (what a model makes of a stranger's request; told and logged)
            if len(requests) > 1:
                half = len(requests) // 2
                return [*self._answers(requests[:half]), *self._answers(requests[half:])]
            _log.error("the responder failed on a request", exc_info=error)
            problem = f"the model failed ({type(error).__name__}); the server's log says why"
            return [Failure(status=500, message=problem)]
