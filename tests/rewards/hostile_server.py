"""A server of bare sockets that answers every request with the bytes, or the behaviour, that a test wants."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

Behaviour = bytes | Callable[[socket.socket], None]


@contextlib.contextmanager
def answering(*behaviours: Behaviour) -> Iterator[str]:
    """The base URL of a server: one behaviour for each request in turn, the last one again and again."""
    left = list(behaviours)
    door = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(door, left), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}/v1"
    finally:
        door.close()


def http(body: str | bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A response that is closed behind its end."""
    data = body if isinstance(body, bytes) else body.encode()
    given = {"content-type": "application/json", "content-length": str(len(data)), "connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data


def said(text: str, **more: object) -> str:
    """A completion."""
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], **more})


def slowly(data: bytes, *, at_once: int, pause: float) -> Callable[[socket.socket], None]:
    """The bytes, a few at a time."""

    def behave(connection: socket.socket) -> None:
        for start in range(0, len(data), at_once):
            connection.sendall(data[start : start + at_once])
            time.sleep(pause)

    return behave


def _serve(door: socket.socket, left: list[Behaviour]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = door.accept()
            now = left.pop(0) if len(left) > 1 else left[0]
            threading.Thread(target=_talk, args=(connection, now), daemon=True).start()


def _talk(connection: socket.socket, behaviour: Behaviour) -> None:
    with connection, contextlib.suppress(OSError):
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(2**16)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(re.findall(rb"content-length: (\d+)", head, re.IGNORECASE)[0])
        while len(body) < length:
            body += connection.recv(2**16)
        if isinstance(behaviour, bytes):
            connection.sendall(behaviour)
        else:
            behaviour(connection)
