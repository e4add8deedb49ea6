"""The embedded lake: a SeaweedFS S3 server on loopback, for one folder and whoever uses it.

Users of a folder hold a shared lock on it; the last one out stops the server. A server whose
starter was killed is found again, or started afresh; one that dies under a command is started
again where it was.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stedi_assets.escapes import may_hold_address
from stedi_assets.local.seaweedfs import (
    LocalS3,
    LocalS3Error,
    client,
    exclusive,
    is_ours,
    kill,
    launch,
    ports_of,
    prepare_folder,
    running,
    translate_folder_errors,
)

__all__ = ["LocalS3", "LocalS3Error", "client", "local_environment", "local_s3", "run_local"]

START_SECONDS = 60.0
# A server under load may be slow to answer: patience before it is taken for hung and replaced.
ANSWER_SECONDS = 20.0
START_ATTEMPTS = 3
_WATCH_SECONDS = 1.0


@contextmanager
def local_s3(folder: Path) -> Iterator[LocalS3]:
    """The embedded server with its data in a folder: started where it does not run.

    Whoever leaves last stops it. LocalS3Error where it cannot be started.
    """
    folder = folder.absolute()
    prepare_folder(folder)
    with translate_folder_errors(folder):
        users = (folder / "users.lock").open("a")
    try:
        with translate_folder_errors(folder), exclusive(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _find_answering(folder) or _start(folder)
        yield server
    finally:
        with exclusive(folder):
            if _is_last(users):
                _stop(folder)
            users.close()


def _is_last(users: Any) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _find_answering(folder: Path) -> LocalS3 | None:
    """The folder's server where it runs; one that does not answer is ended."""
    server = running(folder)
    if server is None or _answers_within(server, folder, ANSWER_SECONDS):
        return server
    kill(server.pid, folder)
    return None


def _start(folder: Path, ports: Mapping[str, int] | None = None) -> LocalS3:
    """Start the folder's server; again where another process took one of its ports meanwhile."""
    end = time.monotonic() + START_SECONDS
    for _ in range(START_ATTEMPTS):
        server = launch(folder, ports)
        if _answers_within(server, folder, end - time.monotonic()):
            return server
        kill(server.pid, folder)
    (folder / "server.json").unlink(missing_ok=True)
    raise LocalS3Error(f"The embedded S3 does not start; see {folder / 'server.log'}.")


def _answers(server: LocalS3) -> bool:
    """Whether it takes a write: it lists buckets before its volumes are up."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client(server).put_object(Bucket=server.bucket, Key="_stedi/answers", Body=b"yes")
    except (BotoCoreError, ClientError):
        return False
    return True


def _answers_within(server: LocalS3, folder: Path, seconds: float) -> bool:
    """Whether the server answers before the time is up or its process has ended."""
    end = time.monotonic() + seconds
    while not _answers(server):
        if not is_ours(server.pid, folder) or time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _stop(folder: Path) -> None:
    if server := running(folder):
        kill(server.pid, folder)
    (folder / "server.json").unlink(missing_ok=True)


class _Watch:
    """Starts a server that has died again, on the same ports, for who uses it."""

    def __init__(self, server: LocalS3, folder: Path) -> None:
        self._folder = folder
        self._pid = server.pid
        self._ports = ports_of(folder, server.pid)

    def check(self) -> None:
        """Start the server where it does not live any more; another user may have done so."""
        if is_ours(self._pid, self._folder):
            return
        with exclusive(self._folder):
            server = running(self._folder)
            if server is None:
                print("stedi: the embedded S3 has died; it is started again", file=sys.stderr)
                try:
                    server = _start(self._folder, self._ports)
                except LocalS3Error as error:
                    print(f"stedi: {error}", file=sys.stderr)
                    return
            self._pid = server.pid


def local_environment(server: LocalS3, environ: Mapping[str, str], salt: str) -> dict[str, str]:
    """The environment of a command on the embedded lake: no AWS setting of the person's is left."""
    own = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    lake = environ.get("STEDI_LAKE", "")
    ours = f"s3://{server.bucket}"
    return own | {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ALLOW_HTTP": "true",  # delta-rs and polars refuse plain http otherwise
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "STEDI_LAKE": lake if lake.startswith(f"{ours}/") else ours,
        "STEDI_SUBJECT_SALT": salt,
        "STEDI_EMBEDDED": "1",
    }


def run_local(command: Sequence[str], folder: Path, salt: str) -> int:
    """Run a command on the embedded lake; its exit code, 128 + signal where one ended it.

    127, with a line on stderr, where there is no such command.
    """
    # So that `stedi` and `dagster` of this environment are found without activating it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(command[0], path=path)
    if program is None:
        shown = "…" if may_hold_address(command[0]) else command[0]
        print(f"stedi: {shown}: no such command", file=sys.stderr)
        return 127
    started: list[subprocess.Popen[bytes]] = []
    with _forwarding(started), local_s3(folder) as server:
        environ = local_environment(server, os.environ, salt)
        environ["PATH"] = path
        if sys.prefix != sys.base_prefix:
            environ["VIRTUAL_ENV"] = sys.prefix  # `dg` asks for it
        with _interruptible():
            started.append(subprocess.Popen([program, *command[1:]], env=environ))
        code = _wait(started[0], _Watch(server, folder.absolute()))
    return 128 - code if code < 0 else code


def _wait(command: "subprocess.Popen[bytes]", watch: _Watch) -> int:
    """Wait for a command to end, its server looked after meanwhile; its exit code."""
    while True:
        try:
            return command.wait(_WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            watch.check()


@contextmanager
def _forwarding(started: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """Signals to this process go to the command; this process ends when the command does.

    Before there is a command they end this process, by SystemExit, so that the server is stopped.
    """

    def forward(number: int, frame: object) -> None:
        if not started:
            raise SystemExit(128 + number)
        # A terminal's Ctrl-C reaches the command by itself, with the whole foreground group.
        if number != signal.SIGINT or not _in_foreground():
            started[0].send_signal(number)

    before = {
        number: signal.signal(number, forward)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # `nohup stedi local …` stays so
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have a command that is started here not inherit that SIGINT is ignored.

    A script's `stedi local … &` does, and Dagster would then ignore SIGTERM as well.
    """
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_foreground() -> bool:
    """Whether a terminal's Ctrl-C goes to this process's group, wherever stdin comes from."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
