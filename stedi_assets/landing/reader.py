"""Landed objects to records: reads the text of a day's objects, right to the record.

The engine parses every line that is plainly a record as `records.py` would; lines that look odd
go through `records.py` itself; objects that the engine cannot be trusted with (byte-order
marks, not UTF-8, damaged gzip, strange names) are decoded here.
"""

import functools
import gzip
import io
import json
import re
import warnings
import zlib
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from stedi_assets.lakehouse.client import translate_s3_errors
from stedi_assets.lakehouse.object_store import ObjectStore, is_data
from stedi_assets.landing import record_parser as records
from stedi_assets.spark.dialect import (
    doubles_as_text,
    is_not_utf8,
    without_negative_zero,
)
from stedi_assets.tables.schemas import CORRUPT_RECORD, Column, Entity, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.=/+-]+")
_WHITE = r"[ \t]*"
_STRING = '"[^"\\\\\\x00-\\x1f\ufeff\ufffd]*"'
_NOT_BLANK = '"[^"\\\\\\x00-\\x20\ufeff\ufffd][^"\\\\\\x00-\\x1f\ufeff\ufffd]*"'
_INTEGER = "(?:0|-?[1-9][0-9]{0,17})"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,2})?"


@dataclass(frozen=True, order=True)
class LandedObject:
    """A landed object as S3 lists it; key under the store."""

    key: str
    etag: str
    size: int


def landed_objects(store: ObjectStore, entity: str, ingest_date: date) -> list[LandedObject]:
    """The objects with data that landed for an entity on a day, in the order of their keys."""
    folder = f"landing/{entity}/ingest_date={ingest_date}/"
    return sorted(
        LandedObject(found["Key"], found["ETag"].strip('"'), found["Size"])
        for found in store.objects(folder)
        if is_data(found["Key"][len(folder) :])
    )


def read_landed(
    spark: "SparkSession", store: ObjectStore, entity: Entity, objects: list[LandedObject]
) -> "DataFrame":
    """The records in the objects: the entity's fields, then `_corrupt_record`; one row each."""
    plain, zipped, odd = _by_way_of_reading([o for o in objects if o.size > 0])
    if plain and not zipped and not odd and _count_odd(spark, store, entity, plain) == (0, 0):
        columns = spark.read.schema(spark_schema(entity.fields)).json(_uris(store, plain))
        return columns.withColumn(CORRUPT_RECORD.name, F.lit(None).cast("string")).select(
            *_cleaned(entity)
        )
    plain, zipped, odd = _inspected(spark, store, entity, plain, zipped, odd)
    lines = [_engine_lines(spark, store, entity, group) for group in (plain, zipped) if group]
    texts = [(text,) for landed in odd for text in _decoded(store, entity, landed)]
    if texts or not lines:
        lines.append(spark.createDataFrame(texts, "records string"))
    parsed = [_parsed(part, entity) for part in lines]
    return functools.reduce(lambda whole, part: whole.unionAll(part), parsed)


def _by_way_of_reading(
    objects: list[LandedObject],
) -> tuple[list[LandedObject], list[LandedObject], list[LandedObject]]:
    """Plain objects, gzipped ones, and those whose names an engine would not take literally."""
    odd = [
        o
        for o in objects
        if not _PLAIN_NAME.fullmatch(o.key) or re.search(r"\.g(Z|zZ)$|\.G.$", o.key)
    ]
    rest = [o for o in objects if o not in set(odd)]
    zipped = [o for o in rest if o.key.endswith(".gz")]
    return [o for o in rest if not o.key.endswith(".gz")], zipped, odd


def _uris(store: ObjectStore, objects: list[LandedObject]) -> list[str]:
    return [store.settings.uri(o.key) for o in objects]


def _count_odd(
    spark: "SparkSession", store: ObjectStore, entity: Entity, objects: list[LandedObject]
) -> tuple[int, int]:
    """How many lines are not plainly records, and how many hold marks of odd encoding.

    (-1, -1) where the engine could not read them, not being UTF-8.
    """
    text = spark.read.text(_uris(store, objects))
    line = F.col("value")
    unusual = text.where(~is_in_the_usual_order(line, entity)).where(F.trim(line) != "")
    found = unusual.agg(
        F.count(F.when(~is_plainly_a_record(line, entity), 1)),
        F.count(F.when(line.rlike("[\ufeff\ufffd]"), 1)),
    )
    try:
        row = found.collect()[0]
    except Exception as error:  # the engines' own error classes have nothing in common
        if is_not_utf8(error):
            return -1, -1
        raise
    return row[0], row[1]


def _inspected(
    spark: "SparkSession",
    store: ObjectStore,
    entity: Entity,
    plain: list[LandedObject],
    zipped: list[LandedObject],
    odd: list[LandedObject],
) -> tuple[list[LandedObject], list[LandedObject], list[LandedObject]]:
    """The three groups, with every object that an engine would get wrong moved to the odd ones."""
    if plain and _count_odd(spark, store, entity, plain)[1] != 0:
        strange = [o for o in plain if _is_strange(store, o)]
        plain, odd = [o for o in plain if o not in set(strange)], odd + strange
    strange = [o for o in zipped if _is_strange(store, o)]
    return plain, [o for o in zipped if o not in set(strange)], odd + strange


class UnreadableError(Exception):
    """An object cannot be read at all; the message is the contract's `<reason>`."""


def _content(store: ObjectStore, key: str, version: str | None) -> bytes:
    """The text of an object as bytes, unzipped; UnreadableError."""
    settings = store.settings
    of_version = {"VersionId": version} if version else {}
    with translate_s3_errors(store.client, f"reading {key}"):
        answer = store.client.get_object(
            Bucket=settings.bucket, Key=settings.key(key), **of_version
        )
        content: bytes = answer["Body"].read()
    if not key.lower().endswith(".gz") or not content:
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read()
    except EOFError:
        raise UnreadableError("gzip cut short") from None
    except gzip.BadGzipFile as error:
        not_gzip = "Not a gzipped file" in str(error)
        raise UnreadableError("not gzip" if not_gzip else "gzip damaged") from None
    except zlib.error:
        raise UnreadableError("gzip damaged") from None


def landed_text(store: ObjectStore, key: str, version: str | None = None) -> str:
    """The text of a landed object (or of an older version of it), unzipped; UnreadableError."""
    try:
        return _content(store, key, version).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("not UTF-8") from None


def _is_strange(store: ObjectStore, landed: LandedObject) -> bool:
    try:
        return landed_text(store, landed.key).startswith("\ufeff")
    except UnreadableError:
        return True


def _decoded(store: ObjectStore, entity: Entity, landed: LandedObject) -> list[str]:
    """The records of an object that no engine reads, each line's as a JSON array."""
    try:
        text = landed_text(store, landed.key)
    except UnreadableError as error:
        reason = f"unreadable object {landed.key}: {error}"
        return [json.dumps([{CORRUPT_RECORD.name: reason}])]
    normalize = _normalizer(entity)
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    return [normalize(line) for line in lines if line.strip(records.WHITE)]


def _normalizer(entity: Entity) -> Any:
    """A function from a line of text to its records as a JSON array of plain records."""
    types = {column.name: column.type for column in entity.fields}
    required, aliases = sorted(entity.required), entity.aliases

    def normalize(line: str) -> str:  # the hints say what kind of UDF it is
        return json.dumps(records.records_of(line, types, required, aliases))

    return normalize


def _engine_lines(
    spark: "SparkSession", store: ObjectStore, entity: Entity, objects: list[LandedObject]
) -> "DataFrame":
    """The lines of objects that the engine reads, each one's records as a JSON array."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(records)
    with warnings.catch_warnings():  # what kind of UDF it is follows from `useArrow`, it says
        warnings.simplefilter("ignore", UserWarning)
        normalize = F.udf(_normalizer(entity), "string")
    line = F.col("value")
    return (
        spark.read.text(_uris(store, objects))
        .where(F.trim("value") != "")
        .select(
            F.when(
                is_plainly_a_record(line, entity),
                F.concat(F.lit("["), doubles_as_text(line, _doubles(entity)), F.lit("]")),
            )
            .otherwise(normalize(line))
            .alias("records")
        )
    )


def _doubles(entity: Entity) -> list[str]:
    return [column.name for column in entity.fields if column.type == "double"]


def _parsed(lines: "DataFrame", entity: Entity) -> "DataFrame":
    """The records of lines, their doubles quoted."""
    columns = (*entity.fields, CORRUPT_RECORD)
    types = {c.name: "string" if c.type == "double" else c.type for c in columns}
    fields = ", ".join(f"`{name}`: {kind}" for name, kind in types.items())
    parsed = F.from_json("records", f"array<struct<{fields}>>")
    record = lines.select(F.explode(parsed).alias("record")).select("record.*")
    typed = record.select(*(F.col(c.name).cast(c.type).alias(c.name) for c in columns))
    return typed.select(*_cleaned(entity))


def _cleaned(entity: Entity) -> list["SparkColumn"]:
    """The columns in the contract's order; -0 is 0."""
    return [
        without_negative_zero(c.name).alias(c.name) if c.type == "double" else F.col(c.name)
        for c in (*entity.fields, CORRUPT_RECORD)
    ]


def _field_pattern(column: Column, required: bool) -> str:
    value = {"bigint": _INTEGER, "double": _NUMBER, "string": _NOT_BLANK if required else _STRING}
    return f'"{column.name}":{_WHITE}{value[column.type]}'


def is_in_the_usual_order(line: "SparkColumn", entity: Entity) -> "SparkColumn":
    """Whether a line is plainly a record by one regular expression: all fields, in our order.

    It implies `is_plainly_a_record`, costs half as much, and holds for what producers of readings
    write. Entities with optional fields are few records: they are left to the other.
    """
    if any(column.name not in entity.required for column in entity.fields):
        return F.lit(False)
    fields = f"{_WHITE},{_WHITE}".join(_field_pattern(column, True) for column in entity.fields)
    return line.rlike(rf"^{_WHITE}\{{{_WHITE}{fields}{_WHITE}\}}{_WHITE}$")


def is_plainly_a_record(line: "SparkColumn", entity: Entity) -> "SparkColumn":
    """Whether a line is one flat, well-formed record that every JSON parser reads alike.

    Known fields only, each at most once, all required ones there, no escapes, no nulls. Strings
    hold no quotes, so `":` occurs once for every field and a field's quoted name only as a name.
    """
    known = "|".join(_field_pattern(c, c.name in entity.required) for c in entity.fields)
    shape = rf"^{_WHITE}\{{{_WHITE}(?:{known})(?:{_WHITE},{_WHITE}(?:{known}))*{_WHITE}\}}{_WHITE}$"
    names = {c.name: line.contains(f'"{c.name}":') for c in entity.fields}
    fields = F.length(line) - F.length(F.replace(line, F.lit('":'), F.lit('"')))
    distinct = sum((F.when(there, 1).otherwise(0) for there in names.values()), F.lit(0))
    plainly = line.rlike(shape) & (fields == distinct)
    for name in sorted(entity.required):
        plainly = plainly & names[name]
    return plainly
