"""The S3 proxy in a process of its own, for clients in this one that keep Python's lock.

Some calls of delta-rs wait for S3 with the lock held: a proxy in a thread of the same process would
never get to answer them.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

from bench.s3_proxy import Fault, Request, S3Proxy


class S3ProxyProcess:
    """As `S3Proxy`; its fault is pickled, and works on a copy there."""

    def __init__(self, backend: str, *, latency: float = 0) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, backend, latency), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.endpoint: str = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(("end", None))
        self._process.join()

    def set_fault(self, fault: Callable[[Request], Fault | None] | None) -> None:
        """From here on requests go by this one."""
        self._ask("fault", fault)

    def _ask(self, what: str, value: object) -> Any:
        self._pipe.send((what, value))
        return self._pipe.recv()


def _serve(pipe: Connection, backend: str, latency: float) -> None:
    with S3Proxy(backend, latency=latency) as proxy:
        pipe.send(proxy.endpoint)
        while True:
            try:
                what, value = pipe.recv()
            except EOFError:  # its parent is gone
                return
            if what == "end":
                return
            answer = None
            if what == "fault":
                proxy.fault = value
            else:
                answer, proxy.log = proxy.log, []
            pipe.send(answer)
