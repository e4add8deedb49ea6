"""A real Apache Spark for the tests of this folder: STEDI_SPARK names its Spark Connect server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stedi_assets.settings import load_settings
from stedi_assets.spark.options import server_options
from stedi_assets_tests.spark.cluster import Cluster

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this folder needs Java."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def cluster(
    session_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Master, two workers and a Spark Connect server, for the whole session."""
    cluster = Cluster(tmp_path_factory.mktemp("spark"), server_options(load_settings()))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def on_the_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine of every test here, whole again after what the test before did to it."""
    cluster.heal()
    monkeypatch.setenv("STEDI_SPARK", cluster.remote)
