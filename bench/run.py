"""`make bench`: the project against a DuckDB and a plain PySpark script, in one run, as ratios.

python -m bench.run [--scales 1,10] [--skip-pyspark] [--source DIR]: without a source, synthetic
data of the published shape. The project goes from JSON on S3 to Delta on S3 as one `dagster asset
materialize`, the scripts from and to local disk. Memory is the peak of all of a command's
processes, the S3 server left out.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.make_data import multiplied, synthetic
from stedi_assets.local import local_environment, local_s3
from stedi_assets.settings import EMBEDDED_SALT

DAY = "2022-06-18"


@dataclass(frozen=True)
class Measured:
    """A command's wall time in seconds, peak memory in bytes and standard output."""

    seconds: float
    peak: int
    output: str


def measure(command: Sequence[str], environ: dict[str, str] | None = None) -> Measured:
    """Run a command as a whole process and measure it; CalledProcessError where it fails."""
    start, peak, done = time.monotonic(), 0, threading.Event()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environ, text=True)

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, resident(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
        if code:
            errors.seek(0)
            print(errors.read()[-3000:], file=sys.stderr)
            raise subprocess.CalledProcessError(code, command)
        output.seek(0)
        return Measured(seconds, peak, output.read())


def resident(pid: int) -> int:
    """Resident bytes of a process and all that it started."""
    try:
        root = psutil.Process(pid)
        return sum(one.memory_info().rss for one in [root, *root.children(recursive=True)])
    except psutil.Error:
        return 0


def project(source: Path, folder: Path) -> tuple[Measured, dict[str, int]]:
    """The project's whole command on landed data, on a lake of its own."""
    stedi, python = str(Path(sys.executable).with_name("stedi")), sys.executable
    with local_s3(folder / "s3") as server:
        environ = local_environment(server, os.environ, EMBEDDED_SALT) | {"DAGSTER_HOME": ""}
        environ.pop("DAGSTER_HOME")
        landing = [stedi, "land", str(source), "--ingest-date", DAY]
        subprocess.run(landing, env=environ, check=True, stdout=subprocess.DEVNULL)
        assets = ["-m", "stedi_assets.definitions", "--select", "*", "--partition", DAY]
        measured = measure([python, "-m", "dagster", "asset", "materialize", *assets], environ)
        tables = subprocess.run(
            [stedi, "tables", "--json"], env=environ, check=True, capture_output=True, text=True
        )
        return measured, {t["table"]: t["rows"] for t in json.loads(tables.stdout)}


def compare(source: Path, scale: int, skip_pyspark: bool) -> None:
    """Measure all of them at a scale and print a row each."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = multiplied(source, folder / "data", scale)
        mine, rows = project(data, folder)
        scripts = ["duckdb_script"] + ([] if skip_pyspark else ["plain_pyspark"])
        print(f"| {scale} | stedi_assets | {mine.seconds:.1f} | 1 | {mine.peak / 1e9:.2f} |")
        for script in scripts:
            command = [sys.executable, "-m", f"bench.{script}", str(data), str(folder / script)]
            other = measure(command)
            counts = json.loads(other.output.strip().splitlines()[-1])
            if counts != {name: rows[name] for name in counts}:
                raise SystemExit(f"{script} and the project differ: {counts}, {rows}")
            ratio = mine.seconds / other.seconds
            print(
                f"| {scale} | {script} | {other.seconds:.1f} | {ratio:.2f} |"
                f" {other.peak / 1e9:.2f} |",
                flush=True,
            )


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", default="1,10")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--skip-pyspark", action="store_true")
    arguments = parser.parse_args()
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}")
    print(
        "\n| times | what | seconds | project's time / its time | peak GB |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as made:
        source = arguments.source or synthetic(Path(made) / "base")
        for scale in arguments.scales.split(","):
            compare(source, int(scale), arguments.skip_pyspark)


if __name__ == "__main__":
    main()
