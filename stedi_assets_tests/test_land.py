"""`stedi land` against the embedded server: nothing landed is ever overwritten, nothing twice."""

import hashlib
import os
import threading
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from stedi_assets.errors import StediError
from stedi_assets.landing import upload as land_module
from stedi_assets.landing.layout import landed_dates
from stedi_assets.landing.upload import LandError, land
from stedi_assets.local.s3_server import LocalS3

DAY = date(2022, 6, 18)


@pytest.fixture(scope="module")
def s3(server: LocalS3) -> Any:
    """A client of the session's embedded server."""
    return boto3.client("s3")


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own, as a lake below a bucket has one."""
    return f"lakes/{uuid.uuid4().hex}"


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into the source folder: path -> content."""

    def write(files: dict[str, bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "source"

    return write


def objects(s3: Any, prefix: str) -> dict[str, bytes]:
    """What is below a prefix: key without it -> content."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="stedi", Prefix=f"{prefix}/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {
        key.removeprefix(f"{prefix}/"): s3.get_object(Bucket="stedi", Key=key)["Body"].read()
        for key in keys
    }


def hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def test_lands_in_the_layout_and_not_twice(s3: Any, prefix: str, source: Any) -> None:
    folder = source(
        {
            "customer/a.json": b"1",
            "customer/deep er/b+é%.json.gz": b"2",
            "customer/empty.json": b"",
            "accelerometer/ingest_date=2022-06-19/c.json": b"3",
            "README.md": b"no data",
        }
    )
    steps: list[tuple[int, int]] = []
    landed = land(s3, "stedi", prefix, folder, DAY, lambda *step: steps.append(step))
    assert (landed.sent, landed.skipped, landed.renamed, landed.warnings) == (4, 0, 0, [])
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    there = objects(s3, prefix)
    assert there == {
        "landing/customer/ingest_date=2022-06-18/a.json": b"1",
        "landing/customer/ingest_date=2022-06-18/deep er/b+é%.json.gz": b"2",
        "landing/customer/ingest_date=2022-06-18/empty.json": b"",
        "landing/accelerometer/ingest_date=2022-06-19/c.json": b"3",
    }
    again = land(s3, "stedi", prefix, folder, DAY)
    assert (again.sent, again.skipped, again.renamed) == (0, 4, 0)
    assert objects(s3, prefix) == there
    other_day = land(s3, "stedi", prefix, folder, date(2022, 6, 20))
    assert (other_day.sent, other_day.skipped) == (3, 1)


def test_without_a_prefix_it_starts_at_landing(s3: Any, source: Any) -> None:
    name = f"{uuid.uuid4().hex}.json"
    land(s3, "stedi", "", source({f"customer/{name}": b"1"}), DAY)
    key = f"landing/customer/ingest_date=2022-06-18/{name}"
    assert s3.get_object(Bucket="stedi", Key=key)["Body"].read() == b"1"
    s3.delete_object(Bucket="stedi", Key=key)


def test_other_content_lands_beside(s3: Any, prefix: str, source: Any) -> None:
    land(s3, "stedi", prefix, source({"customer/x/a.json.gz": b"old"}), DAY)
    folder = source({"customer/x/a.json.gz": b"new"})
    for counts in ((1, 0, 1), (0, 1, 0)):
        landed = land(s3, "stedi", prefix, folder, DAY)
        assert (landed.sent, landed.skipped, landed.renamed) == counts
    start = "landing/customer/ingest_date=2022-06-18/x/a"
    assert objects(s3, prefix) == {
        f"{start}.json.gz": b"old",
        f"{start}-{hashed(b'new')}.json.gz": b"new",
    }


def test_an_object_put_by_somebody_else_is_compared_by_content(
    s3: Any, prefix: str, source: Any
) -> None:
    start = f"{prefix}/landing/customer/ingest_date=2022-06-18"
    s3.put_object(Bucket="stedi", Key=f"{start}/same.json", Body=b"same")
    s3.put_object(Bucket="stedi", Key=f"{start}/other.json", Body=b"theirs")
    files = {"customer/same.json": b"same", "customer/other.json": b"ours"}
    landed = land(s3, "stedi", prefix, source(files), DAY)
    assert (landed.sent, landed.skipped, landed.renamed) == (1, 1, 1)
    assert objects(s3, prefix)["landing/customer/ingest_date=2022-06-18/other.json"] == b"theirs"


def test_the_hashed_name_is_not_overwritten_either(s3: Any, prefix: str, source: Any) -> None:
    start = f"{prefix}/landing/customer/ingest_date=2022-06-18"
    for name in ("a.json", f"a-{hashed(b'ours')}.json"):
        s3.put_object(Bucket="stedi", Key=f"{start}/{name}", Body=b"theirs")
    with pytest.raises(LandError, match="there with other content"):
        land(s3, "stedi", prefix, source({"customer/a.json": b"ours"}), DAY)
    assert set(objects(s3, prefix).values()) == {b"theirs"}


def test_what_is_not_data_is_named_in_a_warning(s3: Any, prefix: str, source: Any) -> None:
    folder = source(
        {
            "customer/a.json": b"1",
            "customer/_SUCCESS": b"",
            "customer/.tmp/b.json": b"2",
            "customer/ingest_date=2022-06-19/_x/c.json": b"3",
            "stepTrainer/d.json": b"4",
        }
    )
    os.symlink(folder / "stepTrainer", folder / "customer" / "link")
    landed = land(s3, "stedi", prefix, folder, DAY)
    assert (landed.sent, len(landed.warnings)) == (1, 5)
    assert list(objects(s3, prefix)) == ["landing/customer/ingest_date=2022-06-18/a.json"]


def test_names_of_files_and_folders_are_shown_without_an_address(
    s3: Any, prefix: str, source: Any
) -> None:
    files = ("customer/_ann@x.org.json", "ann%40x.org/a", "customer/b/.ann&#64;x.org/c.json")
    folder = source(dict.fromkeys(("customer/ok.json", *files), b"1"))
    os.symlink("/nowhere", folder / "customer" / "ann@x.org")
    os.rename(folder / "customer" / "ok.json", os.fsencode(folder) + b"/customer/ann@x.org\xe9")
    warnings = land(s3, "stedi", prefix, folder, DAY).warnings
    assert len(warnings) == 5
    assert f"{folder}/customer/… is not data (its name says so): not sent." in warnings
    with pytest.raises(LandError) as no_date:
        land(s3, "stedi", prefix, source({"customer/ingest_date=ann@x.org/a": b""}), DAY)
    (folder / "customer").rename(folder / "ann@x.org")
    with pytest.raises(LandError) as no_entity:
        land(s3, "stedi", prefix, folder, DAY)
    assert not any("ann" in text for text in [*warnings, str(no_date.value), str(no_entity.value)])


@pytest.mark.parametrize(
    "text", ["2022-02-30", "2022-6-1", "yesterday", "", "20220618", "0001-01-01"]
)
def test_a_date_that_is_none_is_refused_before_anything_is_sent(
    s3: Any, prefix: str, source: Any, text: str
) -> None:
    files = {"customer/a.json": b"1", f"step_trainer/ingest_date={text}/b.json": b"2"}
    with pytest.raises(LandError, match="not a date") as error:
        land(s3, "stedi", prefix, source(files), DAY)
    assert "\n" not in str(error.value)
    assert objects(s3, prefix) == {}


def test_a_source_with_no_entity_says_what_it_has(s3: Any, prefix: str, source: Any) -> None:
    with pytest.raises(LandError, match=r"customer, .*\(it has customers\)") as error:
        land(s3, "stedi", prefix, source({"customers/a.json": b"1"}), DAY)
    assert "\n" not in str(error.value)


def test_landed_at_once_by_several_every_content_is_there_once(
    s3: Any, prefix: str, tmp_path: Path
) -> None:
    def one(number: int) -> None:
        folder = tmp_path / str(number) / "customer"
        folder.mkdir(parents=True)
        (folder / "a.json").write_bytes(b"content %d" % number)
        land(s3, "stedi", prefix, folder.parent, DAY)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(objects(s3, prefix).values()) == [b"content 0", b"content 1", b"content 2"]


class Wrapped:
    """A client of which a test changes some calls."""

    def __init__(self, client: Any, **calls: Any) -> None:
        self._client = client
        self.__dict__.update(calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_server_without_conditional_puts(s3: Any, prefix: str, source: Any) -> None:
    def put_object(**arguments: Any) -> Any:
        if "IfNoneMatch" in arguments:
            response = {"ResponseMetadata": {"HTTPStatusCode": 501}, "Error": {}}
            raise ClientError(response, "PutObject")
        return s3.put_object(**arguments)

    client = Wrapped(s3, put_object=put_object)
    for content in (b"1", b"2"):
        assert land(client, "stedi", prefix, source({"customer/a": content}), DAY).sent == 1
    assert sorted(objects(s3, prefix).values()) == [b"1", b"2"]


def test_a_big_file_goes_in_parts(
    s3: Any, prefix: str, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(land_module, "PART_BYTES", 5 << 20)
    content = os.urandom(12 << 20)
    for counts in ((1, 0), (0, 1)):
        landed = land(s3, "stedi", prefix, source({"customer/a": content}), DAY)
        assert (landed.sent, landed.skipped) == counts
    assert list(objects(s3, prefix).values()) == [content]


def test_a_broken_upload_leaves_nothing(
    s3: Any, prefix: str, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(land_module, "PART_BYTES", 5 << 20)

    def upload_part(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 2:
            raise KeyboardInterrupt
        return s3.upload_part(**arguments)

    folder = source({"customer/a": bytes(12 << 20)})
    with pytest.raises(KeyboardInterrupt):
        land(Wrapped(s3, upload_part=upload_part), "stedi", prefix, folder, DAY)
    assert objects(s3, prefix) == {}
    assert not s3.list_multipart_uploads(Bucket="stedi", Prefix=prefix).get("Uploads")


def test_an_error_stops_what_waits(s3: Any, prefix: str, source: Any) -> None:
    calls = []

    def put_object(**arguments: Any) -> Any:
        calls.append(arguments)
        raise ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}, "Error": {}}, "PutObject")

    folder = source({f"customer/{number}": b"1" for number in range(300)})
    with pytest.raises(StediError, match=r"failed at sending \S+/landing/customer/ingest_date"):
        land(Wrapped(s3, put_object=put_object), "stedi", prefix, folder, DAY)
    assert len(calls) < 300


def test_landed_dates(s3: Any, prefix: str, source: Any) -> None:
    files = {
        "customer/ingest_date=2022-06-20/a": b"1",
        "customer/ingest_date=2022-06-18/b/c": b"1",
        "step_trainer/ingest_date=2022-06-19/a": b"1",
    }
    land(s3, "stedi", prefix, source(files), DAY)
    for name in ("ingest_date=bad/x", "other/x", "x"):
        s3.put_object(Bucket="stedi", Key=f"{prefix}/landing/customer/{name}", Body=b"1")
    assert landed_dates(s3, "stedi", prefix) == {
        "customer": [DAY, date(2022, 6, 20)],
        "accelerometer": [],
        "step_trainer": [date(2022, 6, 19)],
    }


def test_a_file_whose_name_is_not_utf8_is_named_and_the_others_land(
    s3: Any, prefix: str, source: Any
) -> None:
    folder = source({"customer/a.json": b"1", "customer/b.json": b"2"})
    os.rename(folder / "customer" / "b.json", os.fsencode(folder / "customer") + b"/caf\xe9.json")
    os.mkdir(os.fsencode(folder) + b"/caf\xe9s")
    landed = land(s3, "stedi", prefix, folder, DAY)
    assert landed.sent == 1
    assert [warning.encode() and "caf\\xe9" in warning for warning in landed.warnings] == [True] * 2
    assert list(objects(s3, prefix)) == ["landing/customer/ingest_date=2022-06-18/a.json"]


@pytest.mark.parametrize(
    ("files", "day"),
    [
        ({"customer/a.json": b"1"}, date(2022, 6, 17)),
        ({"customer/a.json": b"1", "customer/ingest_date=2031-01-01/b.json": b"2"}, DAY),
    ],
)
def test_a_date_that_no_table_takes_in_is_refused_before_anything_is_sent(
    s3: Any, prefix: str, source: Any, files: dict[str, bytes], day: date
) -> None:
    with pytest.raises(LandError, match=r"outside the partition range \(2022-06-18 to 2022-07-01"):
        land(s3, "stedi", prefix, source(files), day, between=(DAY, date(2022, 7, 1)))
    assert objects(s3, prefix) == {}
