"""dagster.yaml.example with a real PostgreSQL: queue, pool, and a run whose process is killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest

from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.odd_data import plain_objects
from stedi_assets_tests.waiting import until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECONDS = 180  # on a busy machine


@pytest.fixture
def instance(
    lake: TestLake, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """Dagster as in production, over a lake of the test's own."""
    shutil.copy(ROOT / "dagster.yaml.example", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("DAGSTER_LOG_BUCKET", lake.settings.bucket)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@contextmanager
def daemon(log: Path) -> Iterator[None]:
    """Dagster's daemon with its code server."""
    command = [BIN / "dagster-daemon", "run", "-m", "stedi_assets.definitions"]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:  # a run that was stopped does not end with the daemon
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def worker(instance: dg.DagsterInstance) -> tuple[str, int] | None:
    """The id and process of a run that works."""
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(filters):
        for entry in instance.all_logs(run.run_id):
            if found := re.search(r"\(pid: (\d+)\)", entry.message or entry.user_message or ""):
                return run.run_id, int(found[1])
    return None


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def seconds_until(true: Callable[[], object]) -> float:
    start = time.monotonic()
    until(true, SECONDS)
    return time.monotonic() - start


def test_a_killed_worker_is_failed_and_done_again_and_no_two_runs_write_at_once(
    instance: dg.DagsterInstance, lake: TestLake, tmp_path: Path
) -> None:
    lake.put(plain_objects())
    with daemon(tmp_path / "daemon.log"):
        run_id, process = until(lambda: worker(instance), SECONDS)
        os.kill(process, signal.SIGSTOP)
        command = [BIN / "dagster", "job", "launch", "-m", "stedi_assets.definitions"]
        subprocess.run([*command, "-j", "catch_up"], check=True, capture_output=True)
        time.sleep(15)  # the queue looks every five seconds
        others = [run for run in instance.get_runs() if run.run_id != run_id]
        assert [run.status for run in others] == [dg.DagsterRunStatus.QUEUED]

        os.kill(process, signal.SIGKILL)
        failed = seconds_until(
            lambda: status(instance, run_id) is dg.DagsterRunStatus.FAILURE,
        )
        again = dg.RunsFilter(tags={"dagster/parent_run_id": run_id})
        retried = seconds_until(lambda: instance.get_runs(again))
        print(f"failed after {failed:.1f} s, queued again {retried:.1f} s later")
        until(lambda: all(run.is_finished for run in instance.get_runs()), SECONDS)
        assert [run.status for run in instance.get_runs(again)] == [dg.DagsterRunStatus.SUCCESS]
    assert lake.differences() == {}
    listed = lake.lake.client.list_objects_v2(Bucket=lake.settings.bucket, Prefix="dagster-logs/")
    assert listed["KeyCount"] > 0, "what runs print is on S3"
