"""Keeps a loopback port of this process to this process, on Linux.

A server inside this process that can only listen on TCP, and asks for no password, would serve
every user of the machine. The guard puts a packet filter on the listening socket. A connection
inherits the filter: it can be made, but nothing that it sends arrives. The filter is taken off a
connection only where this process holds its other end as well.
"""

import ctypes
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Values of Linux that Python's socket module does not name.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
# Classic BPF on a TCP segment: one without a payload passes (handshake, acknowledgement, end).
_ONLY_WITHOUT_PAYLOAD = (
    (0x30, 0, 0, 12),  # A = byte 12: the header's length in words, in its upper four bits
    (0x74, 0, 0, 4),  # A = A >> 4
    (0x64, 0, 0, 2),  # A = A << 2, now in bytes
    (0x07, 0, 0, 0),  # X = A
    (0x80, 0, 0, 0),  # A = length of the segment
    (0x1C, 0, 0, 0),  # A = A - X, the payload
    (0x15, 0, 1, 0),  # if A is 0 go on, else skip a step
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
    (0x06, 0, 0, 0),  # drop
)
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
Address = tuple[str, int]


class PortGuard:
    """The guard of one listening port of this process.

    Args:
        port: the port, on 127.0.0.1.

    Raises:
        OSError: this process does not listen there, or the system refuses the filter.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._admitted: set[int] = set()
        serving = [sock for sock in _own_sockets() if (_addresses(sock)[0] or ("", 0))[1] == port]
        listening = [sock for sock in serving if _is_listening(sock)]
        if not listening:
            raise OSError(f"this process does not listen on port {port}")
        # The listening socket first: then no new connection is missing from the serving ones.
        for sock in [*listening, *serving]:
            _attach_filter(sock)

    @staticmethod
    def is_supported() -> bool:
        """Whether the system has what the guard needs: Linux does."""
        return _TABLES[0].exists()

    def has_connections(self) -> bool:
        """Whether there is a connection to the port, or was one just now.

        What those sent that were made before the filter was there may have arrived.
        """
        ending = f":{self._port:04X}"
        for table in _TABLES:
            with suppress(FileNotFoundError):
                for row in table.read_text().splitlines()[1:]:
                    _, local, remote, state, *_ = row.split()
                    if state != "0A" and (local.endswith(ending) or remote.endswith(ending)):
                        return True
        return False

    def admit_own(self, seconds: float = 0) -> int:
        """Let connections of this process to the port through; return how many are new.

        Args:
            seconds: how long to wait for the first one.
        """
        end = time.monotonic() + seconds
        while not (admitted := self._admit()) and time.monotonic() < end:
            time.sleep(0.0005)
        return admitted

    def _admit(self) -> int:
        served: dict[Address, socket.socket] = {}  # by the other end's address
        dialled: set[Address] = set()
        for sock in _own_sockets():
            local, remote = _addresses(sock)
            if local and remote and local[1] == self._port:
                served[remote] = sock
            elif local and remote and remote[1] == self._port:
                dialled.add(local)
        own = [served[address] for address in dialled & served.keys()]
        new = [sock for sock in own if os.fstat(sock.fileno()).st_ino not in self._admitted]
        for sock in new:
            with suppress(FileNotFoundError):  # it has no filter any more
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            self._admitted.add(os.fstat(sock.fileno()).st_ino)
        return len(new)


def _own_sockets() -> Iterator[socket.socket]:
    """The sockets that this process has open, each as an object on a copy of its descriptor."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile, or not a socket
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                yield socket.socket(fileno=os.dup(int(name)))


def _is_listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _addresses(sock: socket.socket) -> tuple[Address | None, Address | None]:
    """A TCP socket's own address and that of its other end; None where there is none."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return None, None
    ends: list[Address | None] = []
    for ask in (sock.getsockname, sock.getpeername):
        try:
            host, port = ask()[:2]
        except OSError:
            ends.append(None)
        else:
            # gRPC dials 127.0.0.1 by a socket of IPv6, which calls it ::ffff:127.0.0.1.
            ends.append((host.removeprefix("::ffff:"), port))
    return ends[0], ends[1]


def _attach_filter(sock: socket.socket) -> None:
    steps = b"".join(struct.pack("=HBBI", *step) for step in _ONLY_WITHOUT_PAYLOAD)
    memory = ctypes.create_string_buffer(steps, len(steps))
    program = struct.pack("@HP", len(_ONLY_WITHOUT_PAYLOAD), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
