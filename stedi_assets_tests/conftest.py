"""One embedded S3 server for the whole session, a lake of its own (a prefix) for every test."""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date

import dagster as dg
import pytest

from stedi_assets.lakehouse.object_store import open_lake
from stedi_assets.local import s3_server as local
from stedi_assets.local.s3_server import LocalS3
from stedi_assets.settings import load_settings, today
from stedi_assets_tests.reference import expected_tables

SALT = "salt of the tests"
FIRST = date(2022, 6, 18)
OURS = ("STEDI_SPARK", "STEDI_PUBLISHED_DATA")  # variables for the tests themselves


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """The embedded S3 server, in a folder of the session's own."""
    with local.local_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def session_environment(server: LocalS3) -> Iterator[None]:
    """The person's own lake, keys and Dagster home are out of reach of every test."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("AWS_", "STEDI_", "DAGSTER_")) and name not in OURS:
            del os.environ[name]
    os.environ.update(local.local_environment(server, os.environ, SALT))
    os.environ["STEDI_ERROR_LOG"] = "off"  # tests leave nothing behind
    yield
    os.environ.clear()
    os.environ.update(before)


class TestLake:
    """A lake of a test: put objects, run the graph, compare with the reference."""

    __test__ = False

    def __init__(self) -> None:
        self.lake = open_lake(load_settings())
        self.objects: dict[str, bytes] = {}

    def put(self, objects: Mapping[str, bytes]) -> None:
        for key, body in objects.items():
            self.objects[key] = body
            self.lake.client.put_object(
                Bucket=self.lake.settings.bucket, Key=self.lake.settings.key(key), Body=body
            )

    def remove(self, *keys: str) -> None:
        for key in keys:
            del self.objects[key]
        self.lake.delete(list(keys))

    def materialize(
        self, start: date | None, end: date | None = None, *names: str
    ) -> dg.ExecuteInProcessResult:
        """Materialize tables (none named: all) for a date or a range of them."""
        from stedi_assets.definitions import defs
        from stedi_assets.incremental.planner import Work
        from stedi_assets.incremental.reconcile import run_arguments

        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=[dg.AssetKey(name) for name in names] or None,
            **run_arguments(Work(names, start, end or start)),
        )

    def catch_up(self) -> int:
        from stedi_assets.definitions import defs, io_manager
        from stedi_assets.incremental import reconcile as catch_up

        with dg.DagsterInstance.ephemeral() as instance:
            run = catch_up.run_here(defs, instance)
            return catch_up.catch_up(io_manager, run, lambda _line: None)

    def table(self, name: str) -> Counter:
        """A table's rows as a bag of tuples."""
        from stedi_assets.tables.schemas import TABLES

        table = TABLES[name]
        delta = self.lake.delta(table)
        if delta is None:
            return Counter()
        rows = delta.to_pyarrow_table(columns=table.column_names).to_pylist()
        return Counter(tuple(row.values()) for row in rows)

    def expected(self) -> dict[str, Counter]:
        settings = self.lake.settings
        return expected_tables(
            self.objects,
            scope=settings.consent_scope,
            salt=settings.salt(),
            first=settings.first_ingest_date,
            today=today(),
        )

    def differences(self) -> dict[str, tuple[Counter, Counter]]:
        """Per table that is not as the reference has it: rows missing, rows too many."""
        found = {}
        for name, rows in self.expected().items():
            there = self.table(name)
            if rows != there:
                found[name] = (rows - there, there - rows)
        return found


@pytest.fixture
def new_lake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TestLake]:
    """Makes an empty lake of its own; settings by keyword, without their STEDI_."""

    def make(**settings: str) -> TestLake:
        monkeypatch.setenv("STEDI_LAKE", f"s3://stedi/{uuid.uuid4().hex}")
        for name, value in settings.items():
            monkeypatch.setenv(f"STEDI_{name.upper()}", value)
        return TestLake()

    return make


@pytest.fixture
def lake(new_lake: Callable[..., TestLake]) -> TestLake:
    """An empty lake of the test's own."""
    return new_lake()
