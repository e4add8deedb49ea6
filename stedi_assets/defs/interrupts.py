"""Ctrl-C and SIGTERM while Dagster runs a job in this process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """KeyboardInterrupt at the end of what is done within, where a signal asked for an end.

    Dagster's handlers take both signals for the failure of a run, or forget them where they come
    between two steps: the command would go on with its next run, and `forget` would delete.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal is handled there
        yield
        return
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    # Python itself writes a signal's number there, whoever handles it.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        with open(reader, "rb") as came:
            if {signal.SIGINT, signal.SIGTERM} & set(came.read() or b""):
                raise KeyboardInterrupt
