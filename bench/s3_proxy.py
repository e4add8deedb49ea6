"""A loopback proxy before an S3 server: it logs, delays and, on demand, fails requests.

Plain HTTP, byte for byte: the client's `Host` goes through unchanged, so signatures stay valid.
Every connection of a client has one of its own to the server, both kept alive, so requests that
a client sends at the same time stay so. It runs in a thread of its own:

    with S3Proxy(server.endpoint, latency=0.025) as proxy:
        ...  # clients use proxy.endpoint
        proxy.log[0].method, proxy.log[0].key
        proxy.fault = lambda request: Fault("refuse") if request.method == "PUT" else None
"""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

_CHUNK = 1 << 18
_BUFFER = 1 << 20
_NO_BODY = (204, 304)


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    refuse: the answer is 503, and the server sees nothing of it. cut: the connection is closed,
    the server sees nothing of it. lose: the server does it, the connection is closed for an
    answer. tear: the same, but half of the answer's body arrives, where it has one. late:
    the request is held up for some `seconds` before it goes on.
    """

    kind: Literal["refuse", "cut", "lose", "tear", "late"]
    seconds: float = 0


@dataclass
class Request:
    """A request as the proxy saw it. Times are of `time.monotonic`, in seconds."""

    method: str
    path: str  # with the bucket, decoded
    query: dict[str, str]
    agent: str
    connection: int  # of the client, counted from 1
    started: float
    ended: float = 0
    status: int = 0  # 0: no answer was given
    sent: int = 0  # bytes of the body to the server
    received: int = 0  # bytes of the answer's body
    fault: str = ""

    @property
    def key(self) -> str:
        """The object's key, or of a listing the prefix."""
        key = self.path.lstrip("/").partition("/")[2]
        return key or self.query.get("prefix", "")

    @property
    def lists(self) -> bool:
        """Whether it asks for a listing of objects."""
        return self.method == "GET" and "/" not in self.path.strip("/")


@dataclass
class _Head:
    """First line and headers of a request or an answer."""

    line: str
    headers: list[tuple[str, str]]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "_Head | None":
        """None where the connection ended before it."""
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *rest = raw.decode("latin-1").split("\r\n")
        pairs = (header.partition(":") for header in rest if header)
        return cls(line, [(name.strip(), value.strip()) for name, _, value in pairs])

    def get(self, name: str) -> str:
        return next((value for found, value in self.headers if found.lower() == name), "")

    def without(self, *names: str) -> "_Head":
        return _Head(self.line, [h for h in self.headers if h[0].lower() not in names])

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    def __bytes__(self) -> bytes:
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _body(head: _Head, reader: asyncio.StreamReader, to_end: bool) -> AsyncIterator[bytes]:
    """A body as it came, chunk marks and all; to_end: without a length it goes on to the end."""
    if "chunked" in head.get("transfer-encoding").lower():
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if size == 0:
                return
    length = head.get("content-length")
    left = int(length) if length else None
    if left is None and not to_end:
        return
    while left is None or left > 0:
        data = await reader.read(_CHUNK if left is None else min(left, _CHUNK))
        if not data:
            if left:
                raise ConnectionError("the other side closed in the middle of a body")
            return
        left = None if left is None else left - len(data)
        yield data


class S3Proxy:
    """The proxy; a context manager. latency, in seconds, is added before every request."""

    def __init__(self, backend: str, *, latency: float = 0) -> None:
        parts = urlsplit(backend)
        self._backend = (parts.hostname, parts.port)
        self.latency = latency
        self.log: list[Request] = []
        self.fault: Callable[[Request], Fault | None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._clients: set[asyncio.Task[None]] = set()
        self._connections = itertools.count(1)

    def __enter__(self) -> Self:
        self._thread.start()
        start = asyncio.start_server(self._client, "127.0.0.1", 0, limit=_BUFFER, backlog=1024)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        connection = _Connection(self, next(self._connections), reader, writer)
        try:
            while await connection.serve():
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a side went away, or the proxy ends: the client sees its connection end
        finally:
            self._clients.discard(task)
            connection.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the server."""
        return await asyncio.open_connection(*self._backend, limit=_BUFFER)


class _Connection:
    """A client's connection and the server's that belongs to it."""

    def __init__(
        self,
        proxy: S3Proxy,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.proxy, self.number, self.reader, self.writer = proxy, number, reader, writer
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        for writer in (self.writer, self.server[1] if self.server else None):
            if writer is not None:
                writer.transport.abort()

    async def serve(self) -> bool:
        """One request and its answer; whether another one may follow."""
        head = await _Head.read(self.reader)
        if head is None:
            return False
        request = _request(head, self.number)
        fault = self.proxy.fault(request) if self.proxy.fault else None
        request.fault = fault.kind if fault else ""
        self.proxy.log.append(request)
        try:
            late = fault.seconds if fault else 0
            if self.proxy.latency + late:
                await asyncio.sleep(self.proxy.latency + late)
            if fault and fault.kind == "cut":
                return False
            if fault and fault.kind == "refuse":
                return await self._refuse(head, request)
            return await self._forward(head, request, fault)
        finally:
            request.ended = time.monotonic()

    async def _refuse(self, head: _Head, request: Request) -> bool:
        await self._say_continue(head)
        async for _ in _body(head, self.reader, to_end=False):
            pass
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>"
        request.status = 503
        answer = _Head(
            "HTTP/1.1 503 Slow Down",
            [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))],
        )
        self.writer.write(bytes(answer) + (b"" if request.method == "HEAD" else body))
        await self.writer.drain()
        return True

    async def _say_continue(self, head: _Head) -> None:
        if head.get("expect"):
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self.writer.drain()

    async def _forward(self, head: _Head, request: Request, fault: Fault | None) -> bool:
        await self._say_continue(head)
        answer = await self._ask(head.without("expect"), request)
        torn = fault is not None and fault.kind == "tear" and _has_body(answer, request)
        lost = fault is not None and fault.kind in ("lose", "tear") and not torn
        if not lost:
            request.status = answer.status
            self.writer.write(bytes(answer))
        half = int(answer.get("content-length") or 2) // 2
        async for data in self._answer_body(answer, request):
            request.received += len(data)
            if torn and request.received > half:
                self.writer.write(data[: len(data) // 2])
                break
            if not lost:
                self.writer.write(data)
                await self.writer.drain()
        if lost:
            return False
        await self.writer.drain()
        closes = "close" in (answer.get("connection").lower(), head.get("connection").lower())
        return not torn and not closes and _has_length(answer, request)

    async def _ask(self, head: _Head, request: Request) -> _Head:
        """Send a request with its body; the answer's first line and headers."""
        kept = self.server is not None and not self.server[0].at_eof()
        if not kept:
            self.server = await self.proxy.connect()
        reader, writer = self.server
        writer.write(bytes(head))
        async for data in _body(head, self.reader, to_end=False):
            request.sent += len(data)
            writer.write(data)
            await writer.drain()
        await writer.drain()
        answer = await _Head.read(reader)
        if answer is None and kept and not request.sent:
            # The server closed an idle connection at this very moment: a new one.
            self.server = None
            return await self._ask(head, request)
        if answer is None:
            raise ConnectionError("the server closed its connection")
        return answer

    def _answer_body(self, answer: _Head, request: Request) -> AsyncIterator[bytes]:
        assert self.server is not None
        if not _has_body(answer, request):
            return _body(_Head("", []), self.server[0], to_end=False)
        return _body(answer, self.server[0], to_end=True)


def _has_body(answer: _Head, request: Request) -> bool:
    empty = request.method == "HEAD" or answer.status in _NO_BODY
    return not empty and answer.get("content-length") != "0"


def _has_length(answer: _Head, request: Request) -> bool:
    given = answer.get("content-length") or answer.get("transfer-encoding")
    return bool(given) or not _has_body(answer, request)


def _request(head: _Head, connection: int) -> Request:
    method, target, _ = head.line.split(" ", 2)
    path, _, query = target.partition("?")
    fields = dict(parse_qsl(query, keep_blank_values=True))
    agent = head.get("user-agent")
    return Request(method, unquote(path), fields, agent, connection, time.monotonic())


def busy_seconds(log: Sequence[Request]) -> float:
    """For how long at least one request was under way."""
    busy, end = 0.0, 0.0
    for one in sorted(log, key=lambda request: request.started):
        busy += max(0.0, one.ended - max(one.started, end))
        end = max(end, one.ended)
    return busy


def most_at_once(log: Sequence[Request]) -> int:
    """The greatest number of requests under way at one moment."""
    ended = [one for one in log if one.ended]
    events = sorted([(r.started, 1) for r in ended] + [(r.ended, -1) for r in ended])
    most = now = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most
