"""A lake for a measurement: commands on it, and what they read from and wrote to its S3 server."""

import os
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deltalake import DeltaTable

from bench.measure import Measured, run
from stedi_assets.local.s3_server import LocalS3, local_environment, local_s3
from stedi_assets.settings import EMBEDDED_SALT
from stedi_assets.tables.schemas import Table

# Bytes of objects, in and out; a listing's answer is in neither, so requests are counted too.
# Checked against puts, gets, ranges and multipart uploads of known sizes: exact to the byte.
READ = "SeaweedFS_s3_bucket_traffic_sent_bytes_total"
WRITTEN = "SeaweedFS_s3_bucket_traffic_received_bytes_total"
REQUESTS = "SeaweedFS_s3_request_total"
DAGSTER_YAML = Path(__file__).parents[1] / "dagster.local.yaml"


@dataclass(frozen=True)
class Traffic:
    """Bytes of objects read from and written to the S3 server, and requests of any kind."""

    read: int
    written: int
    requests: int

    def since(self, before: "Traffic") -> "Traffic":
        """What came after an earlier state of the counters."""
        return Traffic(
            self.read - before.read,
            self.written - before.written,
            self.requests - before.requests,
        )


@dataclass(frozen=True)
class Figures:
    """A command's figures: time, memory and output, and its traffic with the S3 server."""

    measured: Measured
    traffic: Traffic

    @property
    def seconds(self) -> float:
        return self.measured.seconds


@dataclass(frozen=True)
class BenchLake:
    """An embedded lake with every setting at its default, and a Dagster home of its own."""

    server: LocalS3
    environ: Mapping[str, str]
    dagster_home: Path

    def through(self, endpoint: str) -> "BenchLake":
        """The same lake with its commands' requests going to another endpoint, a proxy's."""
        return replace(self, environ={**self.environ, "AWS_ENDPOINT_URL": endpoint})

    def stedi(self, *arguments: str) -> Figures:
        """Run a `stedi` command on the lake to its end."""
        return self.measure([str(Path(sys.executable).with_name("stedi")), *arguments])

    def measure(self, command: list[str], **environ: str) -> Figures:
        """Run a command on the lake to its end; CommandFailed where it fails."""
        before = self.traffic()
        measured = run(command, {**self.environ, **environ})
        return Figures(measured, self.traffic().since(before))

    def traffic(self) -> Traffic:
        """The S3 server's counters now."""
        with urllib.request.urlopen(self.server.metrics) as answer:
            lines = answer.read().decode().splitlines()

        def total(counter: str) -> int:
            found = (line for line in lines if line.startswith(f"{counter}{{"))
            return int(sum(float(line.rpartition(" ")[2]) for line in found))

        return Traffic(total(READ), total(WRITTEN), total(REQUESTS))

    def delta(self, table: Table) -> DeltaTable:
        """A table as delta-rs, which is not the engine, reads it."""
        return DeltaTable(
            f"s3://{self.server.bucket}/{table.path}",
            storage_options={
                "AWS_ENDPOINT_URL": self.server.endpoint,
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": self.server.access_key,
                "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            },
        )


@contextmanager
def bench_lake(folder: Path) -> Iterator[BenchLake]:
    """A lake with its data in a folder, which must not be there yet; its server ends with it.

    From here on SIGTERM ends this process as Ctrl-C does, or the server would outlive it.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    home = folder / "dagster"
    home.mkdir(parents=True)
    shutil.copy(DAGSTER_YAML, home / "dagster.yaml")
    theirs = ("STEDI_", "DAGSTER_HOME")
    own = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    with local_s3(folder / "s3") as server:
        yield BenchLake(server, local_environment(server, own, EMBEDDED_SALT), home)
