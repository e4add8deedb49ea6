"""The embedded engine serves its own process, and no other user of the machine."""

import logging
import logging.config
import os
import shutil
import socket
import subprocess
import sys
from datetime import date, timedelta

import pytest

from stedi_assets.incremental.inputs import union_all
from stedi_assets.lakehouse.dates import any_of, on_days
from stedi_assets.settings import load_settings
from stedi_assets.spark.options import embedded_variables
from stedi_assets.spark.port_guard import PortGuard
from stedi_assets.spark.session import LOGGERS_OF_ERRORS

NOBODY = 65534
ENGINE = """
import sys, threading, time
from stedi_assets.spark.session import SparkSessions, _PROCESS
spark = SparkSessions().spark_session
assert spark.range(3).count() == 3
print(_PROCESS.embedded.port, flush=True)
sys.stdin.readline()
answers = []
threads = [threading.Thread(target=lambda: answers.append(spark.range(4).count()))]
for thread in threads:
    thread.start()
    thread.join(20)
assert answers == [4], answers
print(spark.conf.get("spark.sql.session.timeZone"), flush=True)
"""
# Another process: an HTTP/2 client that asks Spark Connect to run Python, and a bare socket.
STRANGER = """
import socket, sys, grpc
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc
port = int(sys.argv[1])
channel = DefaultChannelBuilder(f"sc://127.0.0.1:{port}").toChannel()
request = base_pb2.ExecutePlanRequest(session_id="00112233-4455-6677-8899-aabbccddeeff")
request.plan.root.sql.query = "SELECT 'in'"
try:
    list(base_pb2_grpc.SparkConnectServiceStub(channel).ExecutePlan(request, timeout=3))
    print("IN")
except grpc.RpcError as error:
    print(error.code().name)
with socket.create_connection(("127.0.0.1", port), 2) as plain:
    plain.settimeout(1)
    plain.send(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + b"\\0\\0\\0\\4\\0\\0\\0\\0\\0")
    plain.send(b"\\0\\0\\10\\6\\0\\0\\0\\0\\0" + b"12345678")  # a ping, to be answered
    got = b""
    try:
        while part := plain.recv(1000):
            got += part
    except TimeoutError:
        pass
print("PONG" if b"12345678" in got else "SILENCE")
"""

linux = pytest.mark.skipif(not PortGuard.is_supported(), reason="the guard is Linux's")


@pytest.fixture
def engine():
    """A process with an embedded engine; its port. It goes on when a line is written to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def ask_as(port: str, *prefix: str) -> list[str]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", STRANGER, port],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@linux
def test_another_process_runs_nothing_and_our_own_threads_do(engine):
    port = engine.stdout.readline().strip()
    assert ask_as(port) == ["DEADLINE_EXCEEDED", "SILENCE"]
    out, err = engine.communicate("\n", timeout=60)
    assert out.strip() == "UTC", err
    assert engine.returncode == 0, err


@linux
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user"
)
def test_another_user_runs_nothing(engine):
    if subprocess.run(["setpriv", f"--reuid={NOBODY}", sys.executable, "-c", ""]).returncode:
        pytest.skip("another user cannot run this Python")
    port = engine.stdout.readline().strip()
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    assert ask_as(port, *as_nobody) == ["DEADLINE_EXCEEDED", "SILENCE"]


@linux
def test_a_connection_of_this_process_is_let_through_whenever_it_is_made():
    with socket.create_server(("127.0.0.1", 0)) as server:
        guard = PortGuard(server.getsockname()[1])
        assert not guard.has_connections()
        for _ in range(2):
            with socket.create_connection(server.getsockname()) as one:
                accepted, _ = server.accept()
                with accepted:
                    accepted.settimeout(0.3)
                    one.send(b"early")
                    with pytest.raises(TimeoutError):
                        accepted.recv(10)
                    assert guard.admit_own(1) == 1
                    accepted.settimeout(10)
                    assert accepted.recv(10) == b"early"
                    assert guard.has_connections()


@linux
def test_who_connected_before_the_guard_is_seen_and_kept_out():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as stranger,
        server.accept()[0] as accepted,
    ):
        guard = PortGuard(server.getsockname()[1])
        assert guard.has_connections()
        stranger.send(b"late")
        accepted.settimeout(0.3)
        with pytest.raises(TimeoutError):
            accepted.recv(10)


REACHED = """
from stedi_assets.settings import load_settings
from stedi_assets.spark.embedded import EmbeddedEngine
from stedi_assets.spark.port_guard import PortGuard
answers, ports = [True, True, False], []
def has_connections(guard):
    ports.append(guard._port)
    return answers.pop(0)
PortGuard.has_connections = has_connections
engine = EmbeddedEngine()
assert engine.make_session(load_settings()).range(3).count() == 3
assert len(set(ports)) == 3 and engine.port == ports[-1]
"""


@linux
def test_an_engine_that_somebody_reached_is_not_used():
    done = subprocess.run([sys.executable, "-c", REACHED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@linux
def test_a_port_that_is_not_ours_cannot_be_guarded():
    with pytest.raises(OSError, match="does not listen"):
        PortGuard(9)


def test_pyspark_itself_logs_nothing_of_what_an_engine_says(lake):
    """It would tell values of rows; Dagster's runs configure logging, which enables its loggers."""
    session, told = lake.pipeline.lakehouse.spark_session, []
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    for name in LOGGERS_OF_ERRORS:
        logging.getLogger(name).addHandler(handler)
    try:
        with pytest.raises(Exception, match="a name"):
            session.sql("SELECT CAST('a name' AS INT)").collect()
    finally:
        for name in LOGGERS_OF_ERRORS:
            logging.getLogger(name).removeHandler(handler)
    assert told == []


def test_an_idle_session_is_not_forgotten_by_the_engine():
    seconds = int(embedded_variables(load_settings())["SAIL_SPARK__SESSION_TIMEOUT_SECS"])
    assert seconds > 365 * 86_400


def test_the_endpoint_of_s3_alone_is_the_engines_and_no_other_services(lake, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    lake.put({"here": b"one\ntwo\n"})
    program = (
        "import os\n"
        "from stedi_assets.spark.session import SparkSessions\n"
        f"print(SparkSessions().spark_session.read.text({lake.settings.uri('here')!r}).count())\n"
        "print(os.environ.get('AWS_ENDPOINT_URL'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["2", "None"], done.stderr


def test_a_connection_that_is_accepted_late_is_let_through_when_it_is_ready():
    """On a busy machine the server's end of it comes after the wait for it: once hung for ever."""
    program = (
        "from stedi_assets.spark import embedded; embedded._ADMIT_SECONDS = 0\n"
        "from stedi_assets.spark.session import SparkSessions\n"
        "print(SparkSessions().spark_session.range(3).count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "3", done.stderr


def test_a_predicate_over_many_years_does_not_end_the_engines_stack(lake):
    """Nested some hundred times, ORs and unions killed the process without a word."""
    days = [date(2010, 1, 1) + timedelta(2 * n) for n in range(2_000)]
    spark = lake.pipeline.lakehouse.spark_session
    rows = spark.createDataFrame([(day,) for day in days[::100]], "ingest_date date")
    assert rows.where(on_days(days)).count() == 20
    terms = [f"ingest_date = DATE'{day}'" for day in days]
    assert rows.where(any_of(terms)).count() == 20
    assert union_all([rows] * 1_000).count() == 20_000
