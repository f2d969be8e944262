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
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sightline.serving.contract import Failure, Respond
from sightline.serving.room import Room
from sightline.serving.wire import BadRequest, Limits, chunks, completion, error_body, read_request


def make_app(respond: Respond, *, model: str, limits: Limits | None = None, max_batch: int = 32) -> Starlette:
    """The application over a responder; `model` is the name that clients must ask for."""
    bounds = limits or Limits()
    room = Room(respond, max_batch=max_batch)
    created, names = int(time.time()), itertools.count(1)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with room.open():
            yield

    async def chat_completions(request: Request) -> Response:
        body = await _body(request, bounds)
        wanted = await asyncio.to_thread(read_request, body, model=model, limits=bounds)  # it opens pictures
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


def make_server(app: Starlette) -> uvicorn.Server:
    """The server around the application; `run(sockets=[...])` serves until `should_exit` or a signal."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none", lifespan="on"))


async def _body(request: Request, limits: Limits) -> bytes:
    """The body, given up as soon as it is too long. Only JSON: no page of a stranger can send that unasked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("the content type is not application/json; send JSON", status=415)
    parts: list[bytes] = []
    async for part in request.stream():
        parts.append(part)
        if sum(map(len, parts)) > limits.max_body_bytes:
            raise BadRequest(f"the request has more than {limits.max_body_bytes} bytes; send less", status=413)
    return b"".join(parts)


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
    path = request.url.path
    message = f"there is no {request.method} {path} here; POST /v1/chat/completions, GET /v1/models, GET /health"
    return _failed(Failure(status=error.status_code, message=message))


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this: the client left in the middle of its request."""
    return Response(status_code=400)
