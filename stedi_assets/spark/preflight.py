"""Whether an Apache Spark can be had and fits, found out before it is used, in one line if not."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from stedi_assets.errors import StediError, shown_address
from stedi_assets.settings import Settings
from stedi_assets.spark.errors import START_HINT
from stedi_assets.spark.options import DELTA_VERSION, SPARK_VERSION

JAVA_VERSIONS = (17, 21)  # those that Spark 4.1 supports
ANSWER_SECONDS = 10.0


def _no_answer(what: str, address: str) -> StediError:
    return StediError(
        f"No {what} answers at STEDI_SPARK={shown_address(address)}: start it (docs/deploying.md"
        " says how), or correct STEDI_SPARK."
    )


def check_connect_server(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """StediError where no gRPC server answers; pyspark would try for ten minutes."""
    import grpc
    from pyspark.sql.connect.client import DefaultChannelBuilder

    channel = DefaultChannelBuilder(address).toChannel()
    try:
        grpc.channel_ready_future(channel).result(seconds)
    except grpc.FutureTimeoutError:
        raise _no_answer("Spark Connect server", address) from None
    finally:
        channel.close()


def check_master(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """StediError where nothing listens; Spark would try for a minute and print stack traces."""
    host, _, port = address.removeprefix("spark://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError:
        raise _no_answer("Spark master", address) from None


def check_java(spark: str) -> None:
    """StediError where there is no Java, or one that Apache Spark does not run on."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    version = re.search(r'version "(\d+)', _java_output(java) if java else "")
    wanted = " or ".join(map(str, JAVA_VERSIONS))
    if not version:
        where = f"in JAVA_HOME={home}" if home else "on the PATH"
        raise StediError(
            f"STEDI_SPARK={spark} needs Java {wanted}, and there is no java {where}:"
            " install it, or leave STEDI_SPARK unset for the embedded engine, which needs none."
        )
    if int(version[1]) not in JAVA_VERSIONS:
        raise StediError(
            f"STEDI_SPARK={spark} needs Java {wanted}, and {java} is Java {version[1]}:"
            " say with JAVA_HOME where the right one is."
        )


def _java_output(java: str) -> str:
    try:
        return subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    except OSError:
        return ""


def check_engine(spark: Any, settings: Settings) -> None:
    """StediError where Apache Spark is of another version, lacks Delta or cannot read the lake."""
    where = f"Spark ({shown_address(settings.spark)})"
    if not spark.version.startswith(f"{SPARK_VERSION}."):
        raise StediError(
            f"{where} is version {spark.version}, and this project works with {SPARK_VERSION}:"
            " take a cluster of that version."
        )
    if "Delta" not in spark.conf.get("spark.sql.extensions", ""):
        raise StediError(f"{where}: there is no Delta in it; {START_HINT}.")
    # Delta's version as its jar in the driver says.
    delta = spark.sql("SELECT java_method('io.delta.package', 'VERSION')").collect()[0][0]
    if delta.split(".")[:2] != DELTA_VERSION.split(".")[:2]:
        raise StediError(
            f"{where} has Delta {delta}, and this project works with {DELTA_VERSION}: {START_HINT}."
        )
    try:
        _ = spark.read.text(settings.uri("_stedi/settings.json")).schema
    except Exception as error:  # that the object is not there shows that S3 answers
        if "PATH_NOT_FOUND" not in str(error):
            raise
