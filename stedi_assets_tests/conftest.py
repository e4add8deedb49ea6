"""One embedded S3 server for the whole session, a lake of its own (a prefix) for every test."""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path

import dagster as dg
import pytest

from stedi_assets.errors import StediError
from stedi_assets.incremental.planner import PlannedRun
from stedi_assets.lakehouse.object_store import ObjectStore, open_store
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.listing import list_landing
from stedi_assets.local import s3_server as local
from stedi_assets.local.s3_server import LocalS3
from stedi_assets.settings import Settings, load_settings, today
from stedi_assets.spark.options import server_options
from stedi_assets_tests.reference import expected_tables
from stedi_assets_tests.spark.cluster import Cluster

SALT = "salt of the tests"
FIRST = date(2022, 6, 18)
OURS = ("STEDI_SPARK", "STEDI_PUBLISHED_DATA")  # variables for the tests themselves


def listed_objects(store: ObjectStore, entity: str, day: date) -> list[LandedObject]:
    """What landed for an entity on a date, in the order of the keys."""
    return sorted(list_landing(store, [(day, day)], [entity]).objects.get((entity, day), ()))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """The embedded S3 server, in a folder of the session's own."""
    with local.local_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def session_environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The person's own lake, keys and Dagster home are out of reach of every test."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("AWS_", "STEDI_", "DAGSTER_")) and name not in OURS:
            del os.environ[name]
    os.environ["STEDI_HOME"] = str(tmp_path_factory.mktemp("home"))  # not the clone's .stedi
    os.environ["STEDI_ERROR_LOG"] = "off"  # tests leave nothing behind
    if not all(item.get_closest_marker("unit") for item in request.session.items):
        server = request.getfixturevalue("server")
        os.environ.update(local.local_environment(server, os.environ, SALT))
    yield
    os.environ.clear()
    os.environ.update(before)


class TestLake:
    """A lake of a test: put objects, run the graph, compare with the reference."""

    __test__ = False

    def __init__(self, settings: Settings | None = None) -> None:
        from stedi_assets.definitions import build_pipeline

        self.settings = settings or load_settings()
        self.lake = open_store(self.settings)
        self.pipeline = build_pipeline(self.settings)
        self.objects: dict[str, bytes] = {}

    @cached_property
    def defs(self) -> dg.Definitions:
        """The project's definitions over this lake."""
        from stedi_assets.definitions import build_definitions

        return build_definitions(self.pipeline)

    def on(self, engine: str) -> "TestLake":
        """The same lake on another engine (STEDI_SPARK)."""
        other = TestLake(replace(self.settings, spark=engine))
        other.objects = self.objects
        return other

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
        from stedi_assets.defs.jobs import run_arguments

        job = self.defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=[dg.AssetKey(name) for name in names] or None,
            **run_arguments(PlannedRun(start, end or start)),
        )

    def catch_up(self, *, failing_on: date | None = None, say: list[str] | None = None) -> int:
        """Catch up in this process; how many runs it took.

        failing_on: no run of the graph over this date succeeds, as if its objects could not be
        read. say: takes the lines that are said.
        """
        from stedi_assets.defs.jobs import run_here
        from stedi_assets.incremental.reconcile import catch_up

        with dg.DagsterInstance.ephemeral() as instance:
            run = run_here(self.defs, instance)

            def run_or_fail(planned: PlannedRun) -> None:
                if failing_on in planned.days:
                    raise StediError(f"{planned} failed")
                run(planned)

            lines = [] if say is None else say
            return catch_up(self.pipeline, run_or_fail, lines.append)

    def catch_up_without_new_dates(self) -> None:
        """What `stedi erase` does first; StediError where some of it fails."""
        from stedi_assets.defs.jobs import run_here
        from stedi_assets.incremental.reconcile import catch_up_without_new_dates

        with dg.DagsterInstance.ephemeral() as instance:
            run = run_here(self.defs, instance)
            catch_up_without_new_dates(self.pipeline, run, lambda _line: None)

    def table(self, name: str) -> Counter:
        """A table's rows as a bag of tuples."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        from stedi_assets.tables.schemas import TABLES

        table = TABLES[name]
        uri = self.settings.uri(table.path)
        try:
            delta = DeltaTable(uri, storage_options=self.lake.storage_options)
        except TableNotFoundError:
            return Counter()
        rows = delta.to_pyarrow_table(columns=table.column_names).to_pylist()
        return Counter(tuple(row.values()) for row in rows)

    def expected(self) -> dict[str, Counter]:
        settings = self.settings
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `every_engine` run on the embedded engine and, with `-m spark`, on a cluster."""
    if metafunc.definition.get_closest_marker("every_engine"):
        engines = ["embedded", pytest.param("spark", marks=pytest.mark.spark)]
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture(scope="session")
def cluster(
    session_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Apache Spark: master, two workers and a Spark Connect server, for the whole session."""
    cluster = Cluster(tmp_path_factory.mktemp("spark"), server_options(load_settings()))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that STEDI_SPARK names: the embedded one, or the cluster, whole again."""
    if getattr(request, "param", "embedded") == "spark":
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.heal()
        monkeypatch.setenv("STEDI_SPARK", cluster.remote)


@pytest.fixture
def new_lake(engine: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TestLake]:
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


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster home of the test's own, on SQLite, with its databases made."""
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        instance.all_asset_keys()
    return tmp_path
