"""Keys with an empty part, on a server that keeps them: SeaweedFS folds two slashes into one."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import boto3
import pytest

from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing.reader import read_landed
from stedi_assets.settings import Settings
from stedi_assets.tables.schemas import ENTITIES
from stedi_assets_tests import reference
from stedi_assets_tests.conftest import listed_objects
from stedi_assets_tests.odd_data import DATES, reading_line


@pytest.fixture
def store(lake) -> Iterator[ObjectStore]:
    """A store on moto's S3 server, with a bucket."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"access_key": "testing", "secret_key": "testing"}
    settings: Settings = dataclasses.replace(
        lake.settings, bucket="moto", prefix="a/lake", endpoint=f"http://{host}:{port}", **keys
    )
    boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    ).create_bucket(Bucket="moto")
    yield ObjectStore(settings)
    server.stop()


@pytest.mark.slow
def test_objects_whose_keys_have_empty_parts_are_read(lake, store):
    folder = f"landing/accelerometer/ingest_date={DATES[0]}"
    names = ["/x.json", "a//b.json", "a///c.json.gz", "/_hidden"]
    objects = {f"{folder}/{name}": reading_line(n).encode() for n, name in enumerate(names)}
    for key, body in objects.items():
        store.client.put_object(Bucket="moto", Key=store.settings.key(key), Body=body)
    listed = listed_objects(store, "accelerometer", DATES[0])
    spark = lake.pipeline.lakehouse.spark_session
    rows = read_landed(spark, store, ENTITIES["accelerometer"], listed).frame.collect()
    expected = [
        tuple(row.values())
        for key, body in objects.items()
        if not key.endswith("_hidden")
        for row in reference.records("accelerometer", key, body)
    ]
    assert len(listed) == 3
    assert Counter(map(tuple, rows)) == Counter(expected)
