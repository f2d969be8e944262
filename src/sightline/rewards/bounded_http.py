"""HTTP to a server that nobody trusts: every request has so many seconds and so many bytes, whatever comes back.

Owns the connections. The seconds are those of the whole request, from connecting to the last byte, so that a byte now
and then or one "100 Continue" after another buys no time. A response is read to its end here, unpacked within the same
bound, and handed on with its status and three headers alone: no charset, cookie or encoding of a stranger gets further.
Redirects are not followed. Knows neither questions nor JSON.
"""

import threading
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2
import openai

MAX_REPLY = 4 * 2**20
MAX_ERROR = 2**16
_TOO_MUCH = f"more than {MAX_REPLY // 2**20} MiB"
_PIECE = 2**16
_KEPT = ("retry-after", "retry-after-ms", "location")
_PACKED = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class BadResponse(openai.OpenAIError):
    """A response that is given up, in words that go on "the endpoint answers with ..."."""


@dataclass(slots=True)
class _Allowance:
    """What is left to one request."""

    until: float
    num_bytes: int

    def seconds(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("it took too long")
        return left

    def take(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes
        if self.num_bytes < 0:
            raise BadResponse(_TOO_MUCH)


class _Here(threading.local):
    """The allowance of the request that this thread is making; its reads and writes happen in the same thread."""

    allowance: _Allowance


class BoundedTransport(httpx2.BaseTransport):
    """Connections to one server, through the proxy that the environment names. State: the connections."""

    def __init__(self, url: str, *, seconds: float, connections: int) -> None:
        """`seconds` are those of a whole request; `connections` those open at the same time."""
        self._seconds, self._here = seconds, _Here()
        self._pool = _pool(
            url,
            ssl_context=httpx2.create_ssl_context(),
            max_connections=connections,
            network_backend=_Network(self._here),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The whole response."""
        self._here.allowance = _Allowance(time.monotonic() + self._seconds, MAX_REPLY + MAX_ERROR)
        try:
            found = self._pool.handle_request(_plain_request(request, self._seconds))
            try:
                body = _whole(found)
            finally:
                found.close()
        except httpcore2.TimeoutException as error:
            raise httpx2.ReadTimeout(f"not done in {self._seconds:g} seconds") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError) as error:
            raise httpx2.NetworkError(str(error) or type(error).__name__) from error
        kept = {name: value for name, value in _headers(found).items() if name in _KEPT}
        return httpx2.Response(found.status, headers={"content-type": "application/json", **kept}, content=body)

    def close(self) -> None:
        """Let the connections go."""
        self._pool.close()


def _pool(url: str, **options: Any) -> httpcore2.ConnectionPool:
    """Connections to the server itself, or to the proxy that HTTPS_PROXY and its kin name."""
    parts = urlsplit(url)
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if address is None or proxy_bypass(parts.hostname or ""):
        return httpcore2.ConnectionPool(**options)
    proxy = httpx2.Proxy(address if "://" in address else f"http://{address}")
    if proxy.url.scheme not in ("http", "https"):
        raise ValueError(
            f"the environment names a {proxy.url.scheme} proxy; name an http proxy, or unset it (NO_PROXY)"
        )
    return httpcore2.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **options)


def _plain_request(request: httpx2.Request, seconds: float) -> httpcore2.Request:
    assert isinstance(request.stream, Iterable)
    url = request.url
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"]
    return httpcore2.Request(
        method=request.method,
        url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=[*headers, (b"Accept-Encoding", b"identity")],
        content=request.stream,
        extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)},
    )


def _headers(found: httpcore2.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in found.headers}


def _whole(found: httpcore2.Response) -> bytes:
    """The body, unpacked; of an error its beginning, of anything else all or nothing."""
    good = 200 <= found.status < 300
    most = MAX_REPLY if good else MAX_ERROR
    packed = _headers(found).get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "", *_PACKED):
        raise BadResponse("a body in an encoding that was not asked for")
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB) if packed in _PACKED else None
    body = bytearray()
    for part in found.iter_stream():
        try:
            body += part if unpack is None else unpack.decompress(part, most + 1 - len(body))
        except zlib.error as error:
            raise BadResponse("a body that cannot be unpacked") from error
        if len(body) > most:
            if good:
                raise BadResponse(_TOO_MUCH)
            break
    return bytes(body[:most])


class _Network(httpcore2.NetworkBackend):
    """Connecting, within the allowance."""

    def __init__(self, here: _Here) -> None:
        self._here, self._plain = here, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        left = self._here.allowance.seconds()
        return _Stream(self._here, self._plain.connect_tcp(host, port, left, local_address, socket_options))


class _Stream(httpcore2.NetworkStream):
    """Reading and writing, within the allowance."""

    def __init__(self, here: _Here, plain: httpcore2.NetworkStream) -> None:
        self._here, self._plain = here, plain

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._plain.read(max_bytes, self._here.allowance.seconds())
        self._here.allowance.take(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):  # in pieces, since the time limit of one write is its own
            self._plain.write(buffer[start : start + _PIECE], self._here.allowance.seconds())

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._here.allowance.seconds()
        return _Stream(self._here, self._plain.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)
