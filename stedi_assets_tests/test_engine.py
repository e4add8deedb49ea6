"""An engine that cannot be had is one clear line; keys are where nobody sees them."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from stedi_assets.cli.main import main
from stedi_assets.errors import StediError
from stedi_assets.settings import load_settings
from stedi_assets.spark import options, preflight
from stedi_assets.spark.options import server_options
from stedi_assets.spark.preflight import check_engine
from stedi_assets.spark.session import SparkSessions
from stedi_assets_tests.waiting import free_port


def refusal(monkeypatch, spark: str) -> str:
    """What is said when the session of an engine is asked for."""
    monkeypatch.setenv("STEDI_SPARK", spark)
    with pytest.raises(StediError) as error:
        _ = SparkSessions().spark_session
    assert "\n" not in str(error.value)
    return str(error.value)


def java(folder: Path, version: str) -> Path:
    """A JAVA_HOME whose java says a version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return folder


def test_no_java_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refusal(monkeypatch, "local[2]")
    assert "needs Java 17" in said
    assert "no java on the PATH" in said


def test_a_java_home_without_java_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"no java in JAVA_HOME={tmp_path}" in refusal(monkeypatch, "local[*]")


@pytest.mark.parametrize(("version", "number"), [("11.0.2", "11"), ("25", "25"), ("1.8.0_1", "1")])
def test_another_java_is_named(monkeypatch, tmp_path, version, number):
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path, version)))
    assert f"is Java {number}: say with JAVA_HOME" in refusal(monkeypatch, "local[2]")


@pytest.mark.parametrize(
    ("check", "address"),
    [
        (preflight.check_connect_server, "sc://127.0.0.1:{port}"),
        (preflight.check_master, "spark://127.0.0.1:{port}"),
    ],
)
def test_a_server_that_does_not_answer_is_named(check, address):
    address = address.format(port=free_port())
    with pytest.raises(StediError, match=r"docs/deploying\.md") as error:
        check(address, 1)
    assert f"answers at STEDI_SPARK={address}" in str(error.value)


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port where somebody listens who is no Spark."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_what_comes() -> None:
            try:
                while True:
                    server.accept()[0].close()
            except OSError:
                return

        threading.Thread(target=close_what_comes, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_no_spark_is_named(mute_port):
    with pytest.raises(StediError, match="No Spark Connect server answers"):
        preflight.check_connect_server(f"sc://127.0.0.1:{mute_port}", 1)


def test_the_token_of_a_server_is_not_shown():
    with pytest.raises(StediError) as error:
        preflight.check_connect_server(f"sc://127.0.0.1:{free_port()}/;token=secret-token", 1)
    assert "secret-token" not in str(error.value)


class _Spark:
    """The answers of a server of some versions."""

    def __init__(self, version: str, delta: str, extensions: str) -> None:
        self.version, self.delta = version, delta
        self.conf = {"spark.sql.extensions": extensions}

    def sql(self, _text: str) -> "_Spark":
        return self

    def collect(self) -> list[tuple[str]]:
        return [(self.delta,)]


@pytest.mark.parametrize(
    ("spark", "delta", "extensions", "message"),
    [
        ("3.5.1", "3.2.0", "io.delta.sql.DeltaSparkSessionExtension", "is version 3.5.1"),
        ("4.1.4", "4.1.0", "io.delta.sql.DeltaSparkSessionExtension", "has Delta 4.1.0"),
        ("4.1.4", "4.4.0", "", "there is no Delta in it; start it with .* `stedi spark-conf`"),
    ],
)
def test_a_version_that_does_not_fit_is_named(spark, delta, extensions, message):
    with pytest.raises(StediError, match=message) as error:
        check_engine(_Spark(spark, delta, extensions), load_settings())
    assert "\n" not in str(error.value)


def test_options_hold_no_key_and_name_the_lakes_endpoint():
    settings = load_settings()
    found = server_options(settings)
    assert found["spark.hadoop.fs.s3a.endpoint"] == settings.endpoint
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert not any("key" in name or secret in value for name, value in found.items())


def test_keys_reach_spark_as_variables():
    assert options.s3_keys(load_settings()) == {
        name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }


ROLE = """
import datetime
import botocore.session
from botocore.credentials import RefreshableCredentials
from stedi_assets.spark import options
from stedi_assets.settings import load_settings
soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
role = RefreshableCredentials("key of a role", "secret of a role", "token", soon, dict, "iam-role")
botocore.session.Session.get_credentials = lambda self: role
settings = load_settings()
assert options.has_role(settings)
assert options.credentials(settings).token == "token"
print(options.s3_keys(settings), options.s3_options(settings))
"""


def test_a_roles_keys_are_found_by_every_process_of_spark_itself():
    done = subprocess.run([sys.executable, "-c", ROLE], capture_output=True, text=True, check=True)
    assert "of a role" not in done.stdout
    assert done.stdout.startswith("{} ")
    assert "DefaultCredentialsProvider" in done.stdout


def test_spark_conf_prints_what_a_server_is_started_with():
    result = CliRunner().invoke(main, ["spark-conf"])
    assert result.exit_code == 0
    lines = dict(line.split(" ", 1) for line in result.output.splitlines())
    assert lines == server_options(load_settings())
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in result.output


@pytest.mark.spark
def test_jars_that_cannot_be_had_are_named(monkeypatch, tmp_path):
    program = (
        "from stedi_assets.spark import options, session\n"
        "options.PACKAGES = ('no.such:jar:1.0',)\n"
        "from stedi_assets.errors import StediError\n"
        "try: session.SparkSessions().spark_session\n"
        "except StediError as error: print('SAID', error)\n"
    )
    monkeypatch.setenv("STEDI_SPARK", "local[1]")
    # pyspark's own note that this process uses Connect is no business of another.
    monkeypatch.delenv("SPARK_CONNECT_MODE_ENABLED", raising=False)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("SAID"))
    assert "where jars were not found" in said
    assert "no.such#jar;1.0: not found" in done.stderr
