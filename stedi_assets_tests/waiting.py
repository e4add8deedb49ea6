"""Waiting for what another process does, and ports for it."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any


def until(ready: Callable[[], Any], seconds: float = 60) -> Any:
    """What `ready` returns as soon as that is true; fails where it is not within some seconds."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(one.getsockname()[1]) for one in sockets]


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]
