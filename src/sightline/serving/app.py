"""The HTTP server: chat completions, the list of models, health; and running it on a socket until it is stopped.

Meant for this machine and for tests: it asks for no key, so it listens on the loopback address unless told otherwise.
"""

import asyncio
import errno
import itertools
import json
import math
import socket
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sightline.serving.contract import Failure, Respond
from sightline.serving.door import Patience, doors
from sightline.serving.room import Room
from sightline.serving.wire import BadRequest, Limits, Wanted, chunks, completion, error_body, in_short, read_request

READERS = 2


def make_app(respond: Respond, *, model: str, limits: Limits | None = None, max_batch: int = 32) -> Starlette:
    """The application over a responder; `model` is the name that clients must ask for."""
    bounds = limits or Limits()
    room, desk = Room(respond, max_batch=max_batch), _Desk(model, bounds)
    created, names = int(time.time()), itertools.count(1)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with room.open():
            yield
        desk.close()

    async def chat_completions(request: Request) -> Response:
        async with desk.read(request) as wanted:
            found = await room.ask(wanted.request)
        await asyncio.sleep(found.seconds)
        if isinstance(found, Failure):
            return _failed(found)
        head = {"name": f"chatcmpl-{next(names)}", "created": int(time.time()), "model": model}
        if wanted.stream:
            events = chunks(found, **head, with_usage=wanted.with_usage)
            return StreamingResponse(_each(events), media_type="text/event-stream")
        row = completion(found, **head)
        if found.broken:
            text = json.dumps(row)
            return Response(text[: len(text) // 2], media_type="application/json")
        return JSONResponse(row)

    async def models(request: Request) -> Response:
        row = {"id": model, "object": "model", "created": created, "owned_by": "sightline"}
        return JSONResponse({"object": "list", "data": [row]})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": model})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        exception_handlers={BadRequest: _refused, HTTPException: _not_here, ClientDisconnect: _gone},
        lifespan=lifespan,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket to serve on; port 0 takes a free one. ValueError when the address is taken or is none."""
    cure = "give another --port (0 takes a free one) or --host"
    if not 0 <= port < 2**16:
        raise ValueError(f"{host}:{port} cannot be listened on (ports end at {2**16 - 1}); {cure}")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = "it is taken" if error.errno == errno.EADDRINUSE else str(error)
        raise ValueError(f"{host}:{port} cannot be listened on ({reason}); {cure}") from error


def make_server(app: Starlette, *, patience: Patience | None = None) -> uvicorn.Server:
    """The server around the application; `run(sockets=[...])` serves until `should_exit` or a signal."""
    protocol: Any = doors(patience or Patience())  # uvicorn calls what it is given, and its type says a class
    return uvicorn.Server(
        uvicorn.Config(app, http=protocol, log_level="warning", access_log=False, ws="none", lifespan="on")
    )


class _Desk:
    """Where requests are read: bodies within bounds, pictures opened beside the event loop. State: bytes held."""

    def __init__(self, model: str, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._held = 0
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[Wanted]:
        """What a request wants; its bytes count as held until the block is left."""
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    await self._receive(request, body)
                async with asyncio.timeout(self._limits.reading_seconds):
                    read = partial(read_request, bytes(body), model=self._model, limits=self._limits)
                    wanted = await asyncio.get_running_loop().run_in_executor(self._threads, read)
            except TimeoutError as error:
                raise BadRequest("the request could not be read in time; send less, or faster", status=408) from error
            yield wanted
        finally:
            self._held -= len(body)

    def close(self) -> None:
        """Let the threads go, without waiting for a picture."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _receive(self, request: Request, body: bytearray) -> None:
        """The body, given up as soon as it is too long. Only JSON: no page of a stranger can send that unasked."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise BadRequest("the content type is not application/json; send JSON", status=415)
        limits = self._limits
        async for part in request.stream():
            body += part
            self._held += len(part)
            if len(body) > limits.max_body_bytes:
                raise BadRequest(f"the request has more than {limits.max_body_bytes} bytes; send less", status=413)
            if self._held > limits.max_waiting_bytes:
                problem = "too many large requests wait already; try again later"
                raise BadRequest(problem, status=503, retry_after=1.0)


async def _each(events: Iterable[str]) -> AsyncIterator[str]:
    for event in events:
        yield event


def _failed(failure: Failure) -> Response:
    wait = failure.retry_after
    headers = {} if wait is None else {"retry-after": str(math.ceil(wait)), "retry-after-ms": f"{wait * 1000:.0f}"}
    return JSONResponse(error_body(failure), status_code=failure.status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return _failed(error.failure)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = in_short(f"{request.method} {request.url.path}")
    message = f"there is no {asked} here; POST /v1/chat/completions, GET /v1/models, GET /health"
    return _failed(Failure(status=error.status_code, message=message))


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this: the client left in the middle of its request."""
    return Response(status_code=400)
