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
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.make_data import make_data
from bench.measure import Measured, run
from stedi_assets.local import local_environment, local_s3
from stedi_assets.settings import EMBEDDED_SALT

DAY = "2022-06-18"


def project(source: Path, folder: Path) -> tuple[Measured, dict[str, int]]:
    """The project's whole command on landed data, on a lake of its own."""
    stedi, python = str(Path(sys.executable).with_name("stedi")), sys.executable
    with local_s3(folder / "s3") as server:
        environ = local_environment(server, os.environ, EMBEDDED_SALT)
        environ.pop("DAGSTER_HOME", None)
        landing = [stedi, "land", str(source), "--ingest-date", DAY]
        subprocess.run(landing, env=environ, check=True, stdout=subprocess.DEVNULL)
        assets = ["-m", "stedi_assets.definitions", "--select", "*", "--partition", DAY]
        measured = run([python, "-m", "dagster", "asset", "materialize", *assets], environ)
        tables = subprocess.run(
            [stedi, "tables", "--json"], env=environ, check=True, capture_output=True, text=True
        )
        return measured, {t["table"]: t["rows"] for t in json.loads(tables.stdout)}


def compare(source: Path | None, scale: int, skip_pyspark: bool) -> None:
    """Measure all of them at a scale and print a row each."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = make_data(source, folder / "data", scale)
        mine, rows = project(data, folder)
        scripts = ["duckdb_script"] + ([] if skip_pyspark else ["plain_pyspark"])
        print(
            f"| {scale} | stedi_assets | {mine.seconds:.1f} | 1 | {mine.peak_rss_bytes / 1e9:.2f} |"
        )
        for script in scripts:
            command = [sys.executable, "-m", f"bench.{script}", str(data), str(folder / script)]
            other = run(command)
            counts = json.loads(other.stdout.strip().splitlines()[-1])
            if counts != {name: rows[name] for name in counts}:
                raise SystemExit(f"{script} and the project differ: {counts}, {rows}")
            ratio = mine.seconds / other.seconds
            print(
                f"| {scale} | {script} | {other.seconds:.1f} | {ratio:.2f} |"
                f" {other.peak_rss_bytes / 1e9:.2f} |",
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
    for scale in arguments.scales.split(","):
        compare(arguments.source, int(scale), arguments.skip_pyspark)


if __name__ == "__main__":
    main()
