"""Waiting for what another process does."""

import time
from collections.abc import Callable
from typing import Any


def until(ready: Callable[[], Any], seconds: float = 60) -> Any:
    """What `ready` returns as soon as that is true; fails where it is not within some seconds."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
    return found
