"""Whatever is in this folder runs on a real Apache Spark: STEDI_SPARK names its Connect server."""

from pathlib import Path

import pytest

from stedi_assets_tests.spark.cluster import Cluster

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this folder needs Java."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.spark)


@pytest.fixture
def engine(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster, whole again after what the test before did to it."""
    cluster.heal()
    monkeypatch.setenv("STEDI_SPARK", cluster.remote)
