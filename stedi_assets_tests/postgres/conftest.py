"""A real PostgreSQL of the tests' own: Debian's package, started in a folder, gone afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stedi_assets_tests.waiting import free_port, until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.postgres)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    assert on_path, "there is no PostgreSQL: apt-get install postgresql"
    return Path(on_path).parent


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty database, as dagster.yaml.example takes it."""
    binaries = _binaries()
    port = free_port()
    # It refuses to run as root: then as the user that the package made, who has to reach its files.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="stedi-postgres-"))
    if user:
        shutil.chown(folder, user, user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / program, *arguments],
            user=user, group=user, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip

    server = None
    try:
        run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "dagster")
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    *(binaries / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                ],
                user=user, group=user, cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip
        ready = (binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port))
        until(lambda: subprocess.run(ready, check=False).returncode == 0)
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "dagster", "dagster")
        yield f"postgresql+psycopg2://dagster@127.0.0.1:{port}/dagster"
    finally:
        if server:
            server.send_signal(signal.SIGQUIT)  # SIGTERM waits for every client
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
