"""Landed objects read by name, bytes and size, against the plain-Python reference."""

import bz2
import gzip
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import PreconditionError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing import exact_reader, reader
from stedi_assets.landing.object_text import UnreadableError, unzipped
from stedi_assets.landing.reader import read_landed
from stedi_assets.tables.schemas import ENTITIES
from stedi_assets_tests import reference
from stedi_assets_tests.conftest import listed_objects
from stedi_assets_tests.odd_data import DATES, fuzzed_object, reading_line

ENTITY = ENTITIES["accelerometer"]
FOLDER = f"landing/accelerometer/ingest_date={DATES[0]}"
GOOD = reading_line(1).encode()
CANONICAL = b'{"user":"%s","timestamp":1,"x":1.0,"y":1.0,"z":1.0}'


@pytest.fixture
def spark(lake):
    return lake.pipeline.lakehouse.spark_session


@pytest.fixture
def rows(lake, spark) -> Callable[..., Counter]:
    """Reads all that landed on the date, as a bag of rows: from S3, and from local copies."""

    def read(on: ObjectStore | None = None, exactly: bool = False) -> Counter:
        on = on or lake.lake
        objects = listed_objects(on, ENTITY.name, DATES[0])
        found, of_copies = (
            Counter(
                map(tuple, read_landed(spark, on, ENTITY, objects, exactly, copied).frame.collect())
            )
            for copied in (False, True)
        )
        assert found == of_copies
        return found

    return read


def expected(objects: dict[str, bytes], entity: str = ENTITY.name) -> Counter:
    return Counter(
        tuple(row.values())
        for key, body in objects.items()
        for row in reference.records(entity, key, body)
    )


def unreadable(rows: Counter) -> list[str]:
    return sorted(row[-1] for row in rows if (row[-1] or "").startswith("unreadable object "))


NAMES = ["b.json.bz2", "b.BZ2", "b.xz", "b.json.zst", "b.deflate", "b.snappy", "b.lz4", "b.lzo"]
NAMES += [
    "b.parquet",
    "b.json._COPYING_",
    "b=1/x.json",
    "b*.json",
    "b ?[1].json",
    "b",
    "b.1",
    "b%41",
]


@pytest.mark.parametrize("how", ["alone", "beside plain", "beside gzip"])
def test_a_name_that_an_engine_gives_a_meaning_to_is_read_as_the_text_it_holds(lake, rows, how):
    objects = {f"{FOLDER}/{name}": reading_line(n).encode() for n, name in enumerate(NAMES)}
    objects[f"{FOLDER}/c.bz2"] = bz2.compress(GOOD)
    if how == "beside plain":
        objects[f"{FOLDER}/plain.json"] = GOOD
    if how == "beside gzip":
        objects[f"{FOLDER}/zipped.json.gz"] = gzip.compress(GOOD)
    lake.put(objects)
    read = rows()
    assert read == expected(objects)
    assert unreadable(read) == [f"unreadable object {FOLDER}/c.bz2: not UTF-8"]


def test_gzip_with_zero_bytes_between_and_after_members_is_read_as_python_reads_it(lake, rows):
    member = gzip.compress(GOOD + b"\n")
    objects = {
        f"{FOLDER}/after.gz": member + bytes(600),
        f"{FOLDER}/between.gz": member + bytes(1) + member,
        f"{FOLDER}/one byte.gz": member + b"\x1f",
        f"{FOLDER}/garbage.gz": member + b"garbage",
        f"{FOLDER}/zeros.gz": bytes(20),
    }
    lake.put(objects)
    assert rows() == expected(objects)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_unzipping_does_not_depend_on_how_the_bytes_come(size):
    text = random.Random(0).randbytes(300_000) + bytes(5_000_000)
    data = gzip.compress(text) + bytes(3) + gzip.compress(b"") + gzip.compress(b"end")
    data = data if size > 1 else gzip.compress(b"a" * 5000) + bytes(2) + gzip.compress(b"end")
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(unzipped(chunks)) == gzip.decompress(data)
    with pytest.raises(UnreadableError, match="padded"):
        list(unzipped(chunks, allow_padding=False))


@pytest.mark.parametrize("scan", ["refused", "failing"])
def test_where_the_engine_fails_each_object_is_read_by_itself(lake, rows, monkeypatch, scan):
    objects = {f"{FOLDER}/{n}.json": reading_line(n).encode() for n in range(3)}
    lake.put(objects)
    answer = None if scan == "failing" else reader._Scan(0, 1, 0)
    monkeypatch.setattr(reader._Reader, "scan", lambda _self, _objects: answer)
    assert rows() == expected(objects)
    assert rows(exactly=True) == expected(objects)


class Refusing:
    """A client to which S3 does not give some objects."""

    def __init__(self, client, code: str, *names: str) -> None:
        self._client, self._code, self._names = client, code, names

    def get_object(self, **arguments):
        if arguments["Key"].endswith(self._names):
            response = {"Error": {"Code": self._code}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(response, "GetObject")
        return self._client.get_object(**arguments)

    def __getattr__(self, name):
        return getattr(self._client, name)


@pytest.fixture
def refusing(lake, monkeypatch) -> Callable[..., None]:
    def refuse(code: str, *names: str) -> None:
        client = Refusing(lake.lake.client, code, *names)
        monkeypatch.setattr(ObjectStore, "client", property(lambda _store: client))

    return refuse


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState"])
def test_an_object_that_s3_does_not_give_is_one_row_and_holds_up_no_other(
    lake, rows, refusing, code
):
    lake.put({f"{FOLDER}/a.json.bz2": GOOD, f"{FOLDER}/b.bz2": GOOD})
    refusing(code, "b.bz2")
    read = rows()
    assert unreadable(read) == [f"unreadable object {FOLDER}/b.bz2: S3 refuses it ({code})"]
    assert sum(read.values()) == 2


def test_keys_that_may_read_nothing_fail_and_make_no_row(lake, rows, refusing):
    lake.put({f"{FOLDER}/a.json.bz2": GOOD, f"{FOLDER}/b.bz2": GOOD})
    refusing("AccessDenied", "bz2")
    with pytest.raises(StediError, match=f"refuses to give any of 2 .* {FOLDER}/a.json.bz2"):
        rows()


# What the engine reads in S3 by itself (`c.json`) is listed again after the commit.
@pytest.mark.parametrize(
    ("name", "copied"),
    [("a.bz2", True), ("c.json", True), ("d.gz", True), ("a.bz2", False), ("d.gz", False)],
)
def test_what_was_listed_and_vanished_is_listed_again(lake, spark, name, copied):
    """Without its rows the date would look as if it had been read."""
    lake.put({f"{FOLDER}/{one}": GOOD for one in ("b.bz2", name)})
    objects = listed_objects(lake.lake, ENTITY.name, DATES[0])
    lake.remove(f"{FOLDER}/{name}")
    with pytest.raises(PreconditionError):
        read_landed(spark, lake.lake, ENTITY, objects, copied=copied)


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("x.json", b"".join(b"%d" % n for n in range(3000)), "a record longer than 2000 bytes"),
        ("x.json", BOM + b'{"user":"' + b"a" * 3000 + b'"}', "a record longer than 2000 bytes"),
        ("x y", b'{"a":' * 2000, "a record longer than 2000 bytes"),
        ("x.gz", gzip.compress(bytes(3000), mtime=0), "a record longer than 2000 bytes"),
        ("x.gz", gzip.compress((GOOD + b"\n") * 2000, mtime=0), "longer than 100000 bytes"),
        ("x y", (GOOD + b"\n") * 2000, "longer than 100000 bytes"),
        ("x.json", (GOOD + b"\n") * 2000, "longer than 100000 bytes"),
        ("x.json", GOOD.replace(b"{", b"{" + b" " * 3000), "a record longer than 2000 bytes"),
        ("x.json", CANONICAL % (b"a" * 3000), "a record longer than 2000 bytes"),
        ("x.gz", gzip.compress(b" " * 200_000, mtime=0), "longer than 100000 bytes"),
    ],
)
def test_what_exceeds_a_limit_is_one_row_that_names_the_object(
    lake, rows, monkeypatch, name, body, reason
):
    monkeypatch.setattr(reader, "_LONGEST_LINE", 1000)
    limits = {"max_object_bytes": 100_000, "max_record_bytes": 2000}
    limited = ObjectStore(replace(lake.lake.settings, **limits))
    lake.put({f"{FOLDER}/good.json": GOOD, f"{FOLDER}/{name}": body})
    read = rows(limited)
    assert unreadable(read) == [f"unreadable object {FOLDER}/{name}: {reason}"]
    assert sum(read.values()) == 2


def test_objects_within_the_limits_are_read_whatever_their_lines_are_like(lake, rows, monkeypatch):
    monkeypatch.setattr(reader, "_LONGEST_LINE", 1000)
    monkeypatch.setattr(exact_reader, "_BATCH_ROWS", 100)
    many = "".join(reading_line(n % 50) for n in range(1000)).encode()
    objects = {
        f"{FOLDER}/one line.json": many,
        f"{FOLDER}/oneline.json": many + b",,",
        f"{FOLDER}/bom.json": BOM + many.replace(b"}{", b"}\n{"),
        f"{FOLDER}/bad at its end": many + b"\xff",
        f"{FOLDER}/deep.json": b'{"a":' * 100_000,
    }
    lake.put(objects)
    assert rows() == expected(objects)


def test_many_small_objects_are_read_here(lake, rows, monkeypatch):
    monkeypatch.setattr(reader, "_MANY", 20)
    monkeypatch.setattr(exact_reader, "_BATCH_ROWS", 10)
    objects = {f"{FOLDER}/{n}.json": reading_line(n).encode() for n in range(50)}
    objects[f"{FOLDER}/big.json"] = (GOOD + b"\n") * 500
    lake.put(objects)
    assert rows() == expected(objects)


def test_memory_does_not_grow_with_an_object(lake, spark, monkeypatch):
    def chunks(*_arguments, **_options) -> Iterator[str]:
        line = "".join(reading_line(n) for n in range(1000))
        yield from (line for _ in range(50))  # 50,000 objects on one line of 4 MB

    monkeypatch.setattr(exact_reader, "text_chunks", chunks)
    monkeypatch.setattr(exact_reader, "_BATCH_ROWS", 500)
    lake.put({f"{FOLDER}/odd name": GOOD})
    objects = listed_objects(lake.lake, ENTITY.name, DATES[0])
    tracemalloc.start()
    frame = read_landed(spark, lake.lake, ENTITY, objects).frame
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame.count() == 50_000
    assert most < 4 << 20


@pytest.mark.slow
@pytest.mark.parametrize("entity", list(ENTITIES))
@pytest.mark.parametrize("seed", range(8))
def test_fuzzed_names_and_texts_give_the_reference_rows(lake, spark, entity, seed):
    rng = random.Random(f"{entity} {seed}")
    folder = f"landing/{entity}/ingest_date={DATES[0]}"
    for size in (1, 2, 3, 8, 40):
        objects = dict(fuzzed_object(rng, entity, folder) for _ in range(size))
        lake.put(objects)
        listed = listed_objects(lake.lake, entity, DATES[0])
        frame = read_landed(spark, lake.lake, ENTITIES[entity], listed).frame
        read = Counter(map(tuple, frame.collect()))
        assert read == expected(objects, entity), sorted(objects)
        lake.remove(*objects)
