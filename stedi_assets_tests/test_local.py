"""The embedded S3 server: started, shared, found again and stopped, in real processes."""

import errno
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from stedi_assets.local import s3_server as local
from stedi_assets.local import seaweedfs
from stedi_assets_tests.waiting import until

RUN = """
import sys
from pathlib import Path
from stedi_assets.local.s3_server import run_local
sys.exit(run_local(sys.argv[2:], Path(sys.argv[1]), "a salt"))
"""
WAIT = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A server's folder; whatever a failed test leaves running there is ended."""
    yield tmp_path / "s3"
    for pid in servers(tmp_path / "s3"):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `run_local` of a command in a process (and group) of its own."""
    started = []

    def run(*command: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), *command],
            env=os.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def servers(folder: Path) -> list[int]:
    """The live server processes of a folder."""
    ps = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = (line.split(maxsplit=1) for line in ps.stdout.splitlines())
    return [int(pid) for pid, arguments in lines if f" -dir={folder} " in f"{arguments} "]


def holding(start: Callable[..., subprocess.Popen[str]], mark: Path) -> subprocess.Popen[str]:
    """A `run_local` whose command runs until it is ended."""
    process = start(sys.executable, "-c", WAIT, str(mark))
    until(mark.exists)
    return process


def test_data_survives_a_restart_on_other_ports(folder: Path) -> None:
    endpoints = []
    for turn in range(3):
        with local.local_s3(folder) as server:
            endpoints.append(server.endpoint)
            s3 = local.client(server)
            s3.put_object(Bucket="stedi", Key=f"a/{turn}", Body=b"x" * 100_000 + b"%d" % turn)
            for before in range(turn + 1):
                body = s3.get_object(Bucket="stedi", Key=f"a/{before}")["Body"].read()
                assert body.endswith(b"x%d" % before)
        assert servers(folder) == []
        assert not (folder / "server.json").exists()
    assert len(set(endpoints)) > 1


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = pytest.raises(
        local.LocalS3Error, match=r"^The folder .* cannot be used: Not a directory"
    )
    with said, local.local_s3(tmp_path / "file" / "s3"):
        pass


def test_a_disk_that_is_full_when_the_server_starts_is_said_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(local, "_start", full)
    said = pytest.raises(local.LocalS3Error, match=r"^The folder .* cannot be used: No space left")
    with said, local.local_s3(folder):
        pass


def test_stopped_when_the_body_raises(folder: Path) -> None:
    with pytest.raises(KeyError), local.local_s3(folder):
        raise KeyError
    assert servers(folder) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 0"), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
    ],
)
def test_exit_code_is_the_commands(
    start: Callable[..., subprocess.Popen[str]], folder: Path, command: tuple[str, ...], code: int
) -> None:
    assert start(*command).wait(60) == code
    assert servers(folder) == []


def test_a_command_that_does_not_exist(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = start("no-such-command")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (127, "")
    assert err.splitlines() == ["stedi: no-such-command: no such command"]
    assert not folder.exists()


def test_an_address_in_the_place_of_a_command_is_not_repeated(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start("ann@example.com")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()) == (127, ["stedi: …: no such command"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_command_and_server(
    start: Callable[..., subprocess.Popen[str]], folder: Path, number: int
) -> None:
    process = holding(start, folder.with_name("mark"))
    process.send_signal(number)
    # Python ends on SIGINT by dying of it, so 130 comes from a signal as well.
    assert process.wait(30) == 128 + number
    assert servers(folder) == []


# A session's first process owns the terminal that it opens first.
OWN_TERMINAL = "import os; os.close(os.open(os.ttyname(0), os.O_RDWR))"
COUNT = """
import pathlib, signal, sys, time
came = []
signal.signal(signal.SIGINT, lambda *_: came.append(1))
pathlib.Path(sys.argv[1]).touch()
while not came:
    time.sleep(0.05)
time.sleep(1)
sys.exit(40 + len(came))
"""


def test_ctrl_c_at_a_terminal_reaches_the_command_once(folder: Path) -> None:
    mark = folder.with_name("mark")
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", COUNT, str(mark)]
    # pty.fork would run Python between fork and exec, which stands still now and then where the
    # process has threads, as this one does.
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL + RUN, str(folder), *command],
        stdin=end,  # what it says goes to pytest, which shows it where the test fails
        start_new_session=True,
    )
    os.close(end)
    try:
        until(mark.exists)
        os.write(terminal, b"\x03")
        assert process.wait(30) == 41
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert servers(folder) == []


def test_a_signal_before_there_is_a_command_stops_the_server(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = start("sleep", "60")
    until((folder / "server.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert servers(folder) == []


def test_the_last_one_out_stops_the_server(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    first = holding(start, folder.with_name("first"))
    running = servers(folder)
    second = holding(start, folder.with_name("second"))
    assert servers(folder) == running
    assert len(running) == 1
    first.terminate()
    first.wait(30)
    assert servers(folder) == running
    began = time.monotonic()
    second.terminate()
    second.wait(30)
    assert servers(folder) == []
    assert time.monotonic() - began < 20  # a zombie of the first's is not waited for


def test_two_that_start_at_once_share_one_server(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    marks = [folder.with_name(f"mark{number}") for number in range(3)]
    processes = [start(sys.executable, "-c", WAIT, str(mark)) for mark in marks]
    until(lambda: all(mark.exists() for mark in marks))
    assert len(servers(folder)) == 1
    for process in processes:
        process.terminate()
        process.wait(30)
    assert servers(folder) == []


@pytest.mark.slow
def test_two_folders_have_servers_of_their_own(folder: Path) -> None:
    # The other's name begins with this one's: they must not be taken for each other.
    other = folder.with_name("s3 -other")
    with local.local_s3(folder) as one, local.local_s3(other) as two:
        assert one.endpoint != two.endpoint
        local.client(one).put_object(Bucket="stedi", Key="mine", Body=b"1")
        assert "mine" not in str(local.client(two).list_objects_v2(Bucket="stedi"))
        assert not seaweedfs.is_ours(two.pid, folder)
        assert seaweedfs.is_ours(two.pid, other)
    assert servers(other) == []


def test_an_orphan_is_used_again_and_then_stopped(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = holding(start, folder.with_name("mark"))
    (orphan,) = servers(folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    assert servers(folder) == [orphan]
    with local.local_s3(folder) as server:
        assert server.pid == orphan
    assert servers(folder) == []


def test_a_state_file_of_a_dead_server_or_a_stranger_is_not_believed(folder: Path) -> None:
    folder.mkdir()
    state = {"endpoint": "http://127.0.0.1:9", "metrics": "", "pid": os.getpid()}
    state |= {"access_key": "key", "secret_key": "secret"}
    for text in (json.dumps(state), json.dumps(state | {"pid": 2**22 + 1})):
        (folder / "server.json").write_text(text)
        with local.local_s3(folder) as server:
            assert server.pid != os.getpid()
            assert server.endpoint != state["endpoint"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"endpoint": "http://127.0.0.1:9"}'])
def test_a_living_server_whose_state_file_is_lost_or_cut_off_is_used(
    folder: Path, text: str | None
) -> None:
    with local.local_s3(folder) as first:
        local.client(first).put_object(Bucket="stedi", Key="mine", Body=b"1")
        if text is None:
            (folder / "server.json").unlink()
        else:
            (folder / "server.json").write_text(text)
        with local.local_s3(folder) as second:
            assert second == first
        assert servers(folder) == [first.pid]
    assert servers(folder) == []


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_server_of_another_user_is_given_no_keys(folder: Path, monkeypatch, is_lost) -> None:
    with local.local_s3(folder) as server:
        state = (folder / "server.json").read_text()
        if is_lost:
            (folder / "server.json").unlink()
        with monkeypatch.context() as patch:
            patch.setattr(seaweedfs.os, "getuid", lambda: 2**31 - 1)
            with pytest.raises(seaweedfs.LocalS3Error, match=f"Process {server.pid} of another"):
                seaweedfs.running(folder)
        assert (folder / "server.json").exists() != is_lost
        (folder / "server.json").write_text(state)


def test_a_server_that_somebody_started_by_hand_is_named(folder: Path) -> None:
    folder.mkdir()
    stub = "import time; time.sleep(60)"
    arguments = ["mini", f"-dir={folder}", "-bucket=stedi", "-s3.port=9"]
    process = subprocess.Popen([sys.executable, "-c", stub, *arguments])
    try:
        until(lambda: seaweedfs.is_ours(process.pid, folder))
        with pytest.raises(seaweedfs.LocalS3Error, match=f"Process {process.pid} .*: stop it"):
            seaweedfs.running(folder)
    finally:
        process.kill()
        process.wait()


def test_a_server_that_dies_under_a_command_is_started_again_where_it_was(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = holding(start, folder.with_name("mark"))
    before = seaweedfs.running(folder)
    assert before is not None
    local.client(before).put_object(Bucket="stedi", Key="mine", Body=b"1")
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return bool(local.client(before).get_object(Bucket="stedi", Key="mine"))
        except (BotoCoreError, ClientError):
            return False

    until(is_back)
    assert servers(folder) not in ([], [before.pid])
    process.terminate()
    process.wait(30)
    assert servers(folder) == []
    assert "is started again" in process.stderr.read()


def test_the_folder_and_its_secrets_are_the_owners_alone(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with local.local_s3(folder) as server:
        assert folder.stat().st_mode & 0o777 == 0o700
        for name in ("keys.json", "server.json", "key.pem", "security.toml"):
            assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert server.secret_key not in repr(server)
        assert server.secret_key not in seaweedfs.command_line(server.pid)


def test_keys_are_random_kept_and_the_only_ones(folder: Path) -> None:
    """An older lake had fixed keys: its data stays, its keys do not."""
    folder.mkdir()
    old = {"access_key": "stedi", "secret_key": "stedi-local-only"}
    (folder / "keys.json").write_text(json.dumps(old))
    with local.local_s3(folder) as server:
        local.client(server).put_object(Bucket="stedi", Key="mine", Body=b"1")
    (folder / "keys.json").unlink()
    with local.local_s3(folder) as server:
        assert server.secret_key != old["secret_key"]
        assert local.client(server).get_object(Bucket="stedi", Key="mine")["Body"].read() == b"1"
        with pytest.raises(ClientError):
            local.client(replace(server, **old)).get_object(Bucket="stedi", Key="mine")
    with local.local_s3(folder) as again:
        assert (again.access_key, again.secret_key) == (server.access_key, server.secret_key)


# Another user without a key: HTTP of every kind on the ports of HTTP, gRPC on those of gRPC.
WITHOUT_A_KEY = """
import http.client, sys, grpc
paths = ["/buckets/stedi/landing/a.json", "/stedi/landing/a.json", "/dir/lookup?volumeId=1",
         "/dir/assign", "/col/delete?collection=stedi", "/vol/status", "/api/buckets"]
folder = b"/buckets/stedi/landing"
for name, port in (argument.split("=") for argument in sys.argv[1:]):
    if name.endswith("grpc"):
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        ask = channel.unary_stream(
            "/filer_pb.SeaweedFiler/ListEntries", lambda body: body, lambda body: body)
        try:
            print(name, list(ask(b"\\n" + bytes([len(folder)]) + folder, timeout=3)))
        except grpc.RpcError:
            pass
        continue
    for method in ("GET", "PUT", "POST", "DELETE"):
        for path in paths:
            one = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
            one.request(method, path, body=b"x" if method in ("PUT", "POST") else None)
            answer = one.getresponse()
            if answer.status < 400 or b"secret" in answer.read():
                print(name, method, path, answer.status)
"""


def test_no_port_serves_or_deletes_objects_without_a_key(folder: Path) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    is_root = os.geteuid() == 0 and shutil.which("setpriv")
    with local.local_s3(folder) as server:
        s3 = local.client(server)
        s3.put_object(Bucket="stedi", Key="landing/a.json", Body=b"secret" * 1000)
        ports = seaweedfs.ports_of(folder, server.pid)
        done = subprocess.run(
            [*(as_nobody if is_root else []), sys.executable, "-c", WITHOUT_A_KEY]
            + [f"{name}={port}" for name, port in ports.items()],
            capture_output=True,
            text=True,
            timeout=300,
            cwd="/",
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        assert s3.get_object(Bucket="stedi", Key="landing/a.json")["ContentLength"] == 6000


def test_every_port_is_on_loopback(folder: Path) -> None:
    psutil = pytest.importorskip("psutil")
    with local.local_s3(folder) as server:
        sockets = psutil.Process(server.pid).net_connections(kind="inet")
    listening = [one.laddr for one in sockets if one.status == psutil.CONN_LISTEN]
    assert listening
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_foreign_settings_neither_leak_nor_disturb(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start(
        sys.executable,
        "-c",
        "import json, os; print(json.dumps(dict(os.environ)))",
        AWS_PROFILE="no-such-profile",
        AWS_CONFIG_FILE="/no/such/file",
        AWS_ROLE_ARN="arn:aws:iam::1:role/x",
        AWS_SESSION_TOKEN="theirs",
        AWS_SECRET_ACCESS_KEY="theirs",
        AWS_ENDPOINT_URL_S3="http://theirs",
        STEDI_LAKE="s3://theirs/prefix",
        HTTP_PROXY="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    environ = json.loads(out)
    aws = {name: value for name, value in environ.items() if name.startswith("AWS_")}
    assert aws.pop("AWS_ENDPOINT_URL").startswith("http://127.0.0.1:")
    assert len(aws.pop("AWS_ACCESS_KEY_ID")) == 20
    assert len(aws.pop("AWS_SECRET_ACCESS_KEY")) == 40
    assert aws == {
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    assert environ["STEDI_LAKE"] == "s3://stedi"
    assert environ["STEDI_SUBJECT_SALT"] == "a salt"
    assert environ["STEDI_EMBEDDED"] == "1"


def test_a_prefix_of_the_same_bucket_stays() -> None:
    server = local.LocalS3("http://127.0.0.1:1", "", 1, "key", "secret")
    for lake, expected in {
        "s3://stedi/mine": "s3://stedi/mine",
        "s3://stedi-other/mine": "s3://stedi",
        "": "s3://stedi",
    }.items():
        environ = local.local_environment(server, {"STEDI_LAKE": lake, "HOME": "/h"}, "salt")
        assert (environ["STEDI_LAKE"], environ["HOME"]) == (expected, "/h")


def test_no_build_for_this_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(seaweedfs.sys, "executable", "/no/such/python")
    monkeypatch.setattr(seaweedfs.shutil, "which", lambda *_: None)
    with pytest.raises(local.LocalS3Error, match="set STEDI_LAKE") as error, local.local_s3(folder):
        pass
    assert "\n" not in str(error.value)


def test_a_server_that_ends_at_once_names_the_log(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(seaweedfs, "binary", lambda: "/bin/false")
    with pytest.raises(local.LocalS3Error, match=r"server\.log"), local.local_s3(folder):
        pass
    assert not (folder / "server.json").exists()


def test_a_command_of_a_script_that_ignores_ctrl_c_can_be_stopped(start):
    """Dagster gives SIGTERM the handler of SIGINT: where that was ignored nothing ended it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ignored = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
        process = start(sys.executable, "-c", ignored)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.communicate(timeout=120)[0].splitlines()[-1] == "False"
