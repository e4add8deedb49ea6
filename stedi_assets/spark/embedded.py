"""The embedded engine: Sail's Spark Connect server in this process, for this process alone."""

import atexit
import os
import threading
from typing import Any

import grpc
from pyspark.sql.connect.client import DefaultChannelBuilder

from stedi_assets.errors import StediError
from stedi_assets.settings import Settings
from stedi_assets.spark.options import embedded_variables, session_options
from stedi_assets.spark.port_guard import PortGuard

_START_ATTEMPTS = 5
_ADMIT_SECONDS = 5.0
_FOREVER_MS = 2**31 - 1


class EmbeddedEngine:
    """Starts Sail once a process and makes sessions on it.

    Sail listens on a loopback port and asks for no password, so a guard keeps all connections
    out that are not this process's own. Where the system has no such guard (macOS), other users
    of the machine can reach the port: docs/deploying.md says what to do there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: Any = None
        self._guard: PortGuard | None = None

    @property
    def port(self) -> int | None:
        """The port that it listens on; None before the first session."""
        return int(self._server.listening_address[1]) if self._server else None

    def make_session(self, settings: Settings) -> Any:
        """A session, or the one that the process has already; StediError where it cannot start."""
        from pyspark.sql.connect.session import SparkSession

        with self._lock:
            if self._server is None:
                os.environ.update(embedded_variables(settings))
                self._server, self._guard = _start()
        # pyspark's functions look here for the kind of session they serve.
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        channel = _GuardedChannel(f"sc://127.0.0.1:{self.port}", self._guard)
        builder = SparkSession.builder.channelBuilder(channel)
        session = builder.config(map=dict(session_options())).getOrCreate()
        # At its end pyspark would ask Sail for something that it does not know, and log that.
        atexit.unregister(session.client._cleanup_ml_cache)
        return session


def _start() -> tuple[Any, PortGuard | None]:
    from pysail.spark import SparkConnectServer

    for _ in range(_START_ATTEMPTS):
        server = SparkConnectServer("127.0.0.1", 0)
        server.start(background=True)
        if not PortGuard.is_supported():
            return server, None
        try:
            guard = PortGuard(server.listening_address[1])
            if not guard.has_connections():
                return server, guard
        except OSError as error:
            _stop(server)
            raise StediError(
                "The embedded engine does not start: its port cannot be guarded"
                f" ({error.strerror}), so other users of this machine could run code as you."
                " Use STEDI_SPARK=local[*], or a machine of your own."
            ) from None
        # Somebody connected in the moment before the guard was there.
        _stop(server)
    raise StediError(
        "The embedded engine does not start: another process connects to its port each time."
        " Use STEDI_SPARK=local[*], or a machine of your own."
    )


def _stop(server: Any) -> None:
    """Stop a server without waiting for those who are connected to it."""
    threading.Thread(target=server.stop, daemon=True).start()


class _GuardedChannel(DefaultChannelBuilder):
    """Connections to the embedded engine, let through its guard when they are made."""

    def __init__(self, url: str, guard: PortGuard | None) -> None:
        options = [("grpc.enable_http_proxy", 0), ("grpc.client_idle_timeout_ms", _FOREVER_MS)]
        super().__init__(url, channelOptions=options)
        self._guard = guard

    def toChannel(self) -> grpc.Channel:
        """A channel whose connections, the first and any later one, pass the guard."""
        channel = super().toChannel()
        guard = self._guard
        if guard is not None:

            def admit(state: grpc.ChannelConnectivity) -> None:
                if state is grpc.ChannelConnectivity.CONNECTING:
                    guard.admit_own(_ADMIT_SECONDS)
                elif state is grpc.ChannelConnectivity.READY:
                    # On a busy machine the server's end may come later than that: it is there now,
                    # since it has answered (what we sent so far is sent again).
                    guard.admit_own()

            channel.subscribe(admit)
        return channel
