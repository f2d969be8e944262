"""The door of the server: how many connections are open, and how long each may take over what is not work.

A connection that sends no whole request head in time, that does not take its answer, or that is idle when others wait
outside, is closed; the oldest idle one first. Stands between the socket and uvicorn's protocol, and knows no request.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_SORRY = b'{"error": {"message": "too many requests are open; try again later", "type": "server_error"}}'
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_SORRY), _SORRY)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What connections are given. Example: `Patience(head_seconds=5.0)`."""

    connections: int = 512
    """Open at the same time."""
    head_seconds: float = 20.0
    """From connecting, or from the first byte after an answer, to the end of a request's head."""
    taking_seconds: float = 60.0
    """Without room in the socket while an answer is sent."""


def doors(patience: Patience) -> Callable[..., asyncio.BaseProtocol]:
    """Makes the protocol of each connection, as uvicorn wants it; all of them share one limit."""
    inside: dict[Door, None] = {}
    return lambda **given: Door(H11Protocol(**given), patience, inside)


class Door(asyncio.Protocol):
    """One connection. State: uvicorn's protocol behind it, and the timers that run."""

    def __init__(self, inner: H11Protocol, patience: Patience, inside: dict["Door", None]) -> None:
        """`inside` holds all open doors, the oldest first."""
        self._inner, self._patience, self._inside = inner, patience, inside
        self._transport: Any = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its body is on its way."""
        cycle = self._inner.cycle
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, in place of an idle one where the house is full."""
        self._transport = transport
        self._inner.connection_made(self._transport)
        if len(self._inside) >= self._patience.connections:
            idle = next((door for door in self._inside if not door.busy), None)
            if idle is None:
                self._transport.write(FULL)
                self._transport.close()
                return
            idle.shut()
        self._inside[self] = None
        self._start("head", self._patience.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Pass it on; the time for a head ends with the head."""
        if self._transport.is_closing():
            return
        self._inner.data_received(data)
        if self.busy:
            self._stop("head")
        elif "head" not in self._timers:
            self._start("head", self._patience.head_seconds)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._inside.pop(self, None)
        for name in list(self._timers):
            self._stop(name)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes nothing: it has so long to take something."""
        self._inner.pause_writing()
        self._start("taking", self._patience.taking_seconds)

    def resume_writing(self) -> None:
        """It goes on."""
        self._inner.resume_writing()
        self._stop("taking")

    def shut(self) -> None:
        """Close at once; what was not sent is dropped."""
        self._inside.pop(self, None)
        self._transport.abort()

    def _start(self, name: str, seconds: float) -> None:
        self._stop(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, self.shut)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
