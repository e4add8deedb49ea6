"""Landed objects to records: reads the text of a date's objects, right to the record.

The engine parses every canonical record as `record_parser.py` would; lines that are none go through
`record_parser.py` itself, as a UDF; objects that the engine cannot be trusted with (names that mean
something to it, byte-order marks, not UTF-8, damaged gzip, huge lines) are read by
`exact_reader.py`.
"""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing import record_parser
from stedi_assets.landing.canonical import as_json, is_canonical, is_in_the_usual_order
from stedi_assets.landing.exact_reader import THREADS, read_exactly
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.object_text import CHUNK, is_as_engines_expect, starts_with_a_line
from stedi_assets.scratch import scratch_folder
from stedi_assets.spark.dialect import without_negative_zero
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.schemas import CORRUPT_RECORD, Entity, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession

# An engine holds thousands of lines at a time: objects with longer ones are read exactly.
_LONGEST_LINE = CHUNK
# Bigger objects are asked first whether a line ends soon: an engine takes a minute to find out.
_BIG, _SOON = 8 << 20, 64 << 10
# Of more small objects than this each costs an engine more than reading it here.
_MANY, _SMALL = 1000, 16 << 10


@dataclass(frozen=True)
class LandedRecords:
    """The records of landed objects, and what was read for them.

    files: local ones that the frame reads; refused: objects that S3 did not give, a malformed
    record each.
    """

    frame: "DataFrame"
    files: Sequence[Path] = ()
    refused: Sequence[LandedObject] = ()


@dataclass(frozen=True)
class _Scan:
    """What one pass of the engine over the text of objects found."""

    not_canonical: int  # lines
    marks: int  # lines with a byte-order mark, or with what engines read bad bytes as
    longest: int  # bytes of the longest line, where that is beyond the engine's

    @property
    def is_as_expected(self) -> bool:
        return self.marks == 0 and self.longest <= _LONGEST_LINE


@dataclass(frozen=True)
class _Reader:
    """Reads objects of an entity."""

    spark: "SparkSession"
    store: ObjectStore
    entity: Entity
    copies: Mapping[LandedObject, Path]

    def uris(self, objects: Iterable[LandedObject]) -> list[str]:
        return [
            self.copies[o].as_uri() if o in self.copies else self.store.settings.uri(o.key)
            for o in objects
        ]

    def scan(self, objects: list[LandedObject]) -> _Scan | None:
        """One pass over the objects' lines; None where the engine cannot read them."""
        line = F.col("value")
        unusual = (
            self.spark.read.text(self.uris(objects))
            .where(
                ~is_in_the_usual_order(line, self.entity) | (F.octet_length(line) > _LONGEST_LINE)
            )
            .where(F.trim(line) != "")
        )
        figures = unusual.agg(
            F.count(F.when(~is_canonical(line, self.entity), 1)),
            F.count(F.when(line.rlike("[\ufeff\ufffd]"), 1)),
            F.max(F.octet_length(line)),
        )
        try:
            row = figures.collect()[0]
        except Exception:  # the engines' own error classes have nothing in common
            return None
        return _Scan(row[0], row[1], row[2] or 0)

    def starts_with_a_line(self, landed_object: LandedObject) -> bool:
        """Whether a line ends soon in a plain object, or it is small."""
        if landed_object.size <= _BIG:
            return True
        copy = self.copies.get(landed_object)
        return starts_with_a_line(self.store, landed_object, _SOON, copy)

    def is_as_engines_expect(self, landed_object: LandedObject) -> bool:
        """Whether the engine reads an object as the contract does, by reading it here."""
        try:
            copy = self.copies.get(landed_object)
            return is_as_engines_expect(self.store, landed_object, _LONGEST_LINE, copy)
        except GoneError:
            return False

    def canonical(self, objects: list[LandedObject]) -> "DataFrame":
        """The records of objects that hold nothing else."""
        schema = spark_schema(self.entity.fields)
        records = self.spark.read.schema(schema).json(self.uris(objects))
        return records.withColumn(CORRUPT_RECORD.name, F.lit(None).cast("string"))

    def by_lines(self, objects: list[LandedObject]) -> "DataFrame":
        """The records of objects, those of each line by the way that it needs."""
        line = F.col("value")
        records = (
            F.when(
                is_canonical(line, self.entity, widened=True),
                F.concat(F.lit("["), as_json(line, self.entity), F.lit("]")),
            )
            .otherwise(_exact_parser(self.entity)(line))
            .alias("records")
        )
        text = self.spark.read.text(self.uris(objects)).where(F.trim(line) != "")
        return _parsed(text.select(records), self.entity)


def read_landed(
    spark: "SparkSession",
    store: ObjectStore,
    entity: Entity,
    objects: list[LandedObject],
    exactly: bool = False,
    copied: bool = False,
) -> LandedRecords:
    """The records in the objects: the entity's fields, then `_corrupt_record`; one row each.

    Where one of the local files is gone the engine reads the others without a word: whoever
    computes with the records has to look whether all are there.

    exactly: every object is read by the exact parser, none by the engine; slow, and right where
    the engine failed on them for whatever reason. copied: the engine reads local copies of them.
    StediError where S3 does not answer or refuses every object (then the keys are wrong, and no
    object is), PreconditionError where an object is not what was listed.
    """
    objects = [landed_object for landed_object in objects if landed_object.size > 0]
    most = store.settings.max_object_bytes
    plain, zipped, others = ([], [], objects) if exactly else _by_name_and_size(objects, most)
    folder, copies = _local_copies(store, plain + zipped) if copied else (None, {})
    if folder:
        others = [*others, *(o for o in plain + zipped if o not in copies)]
        plain, zipped = ([o for o in some if o in copies] for some in (plain, zipped))
    try:
        frames, unreadable = _read_by_engine(_Reader(spark, store, entity, copies), plain, zipped)
    except BaseException:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    files, refused = [*copies.values()], list[LandedObject]()
    others = [*others, *unreadable]
    if others or not frames:
        exact, their_files, refused = read_exactly(spark, store, entity, others)
        frames, files = frames + exact, files + their_files
    if refused and len(refused) == len(objects):
        raise StediError(
            f"S3 refuses to give any of {len(objects)} landed objects, {shown_key(refused[0].key)}"
            " the first: check that the keys may read them, and that they are not archived; then"
            " run again."
        )
    cleaned = [frame.select(*_cleaned(entity)) for frame in frames]
    whole = functools.reduce(lambda whole, frame: whole.unionAll(frame), cleaned)
    return LandedRecords(whole, files, refused)


def _read_by_engine(
    reader: _Reader, plain: list[LandedObject], zipped: list[LandedObject]
) -> tuple[list["DataFrame"], list[LandedObject]]:
    """The records that the engine reads, and the objects that it cannot read."""
    plain, huge = _divided(plain, reader.starts_with_a_line)
    scan = reader.scan(plain) if plain else None
    unexpected: list[LandedObject] = []
    if plain and (scan is None or not scan.is_as_expected):
        plain, unexpected = _divided(plain, reader.is_as_engines_expect)
        scan = reader.scan(plain) if plain else None
        if scan is None:
            plain, unexpected = [], unexpected + plain
    zipped, damaged = _divided(zipped, reader.is_as_engines_expect)
    frames = []
    if plain and scan is not None:
        frames.append((reader.by_lines if scan.not_canonical else reader.canonical)(plain))
    if zipped:
        frames.append(reader.by_lines(zipped))
    return frames, huge + unexpected + damaged


def _local_copies(
    store: ObjectStore, objects: list[LandedObject]
) -> tuple[Path | None, dict[LandedObject, Path]]:
    """A new local folder with copies of objects, and where they are; without those S3 refuses.

    No folder where there is no room for them: the engine reads S3 then.
    """
    folder = Path(tempfile.mkdtemp(prefix="landed-", dir=scratch_folder()))
    end = {False: ".json", True: ".json.gz"}
    paths = {o: folder / f"{number}{end[o.is_gzipped]}" for number, o in enumerate(objects)}

    def is_copied(landed_object: LandedObject) -> bool:
        try:
            store.download(landed_object.key, paths[landed_object], f'"{landed_object.etag}"')
        except PreconditionError:
            raise
        except StediError:
            return False
        return True

    try:
        copied, _ = _divided(objects, is_copied)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return None, {}
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, {landed_object: paths[landed_object] for landed_object in copied}


def _divided(
    objects: list[LandedObject], is_so: Callable[[LandedObject], bool]
) -> tuple[list[LandedObject], list[LandedObject]]:
    """The objects of which something is so, and the others; several are asked at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(zip(objects, pool.map(is_so, objects), strict=True))
    return [o for o, answer in answers if answer], [o for o, answer in answers if not answer]


def _by_name_and_size(
    objects: list[LandedObject], most: int
) -> tuple[list[LandedObject], list[LandedObject], list[LandedObject]]:
    """Plain objects and gzipped ones for an engine, and those that are read exactly."""
    small = {landed_object for landed_object in objects if landed_object.size <= _SMALL}
    exact = small if len(small) > _MANY else set()
    exact |= {o for o in objects if not o.has_harmless_name or o.size > most}
    rest = [landed_object for landed_object in objects if landed_object not in exact]
    plain = [landed_object for landed_object in rest if not landed_object.is_gzipped]
    return (
        plain,
        [landed_object for landed_object in rest if landed_object.is_gzipped],
        sorted(exact),
    )


def _exact_parser(entity: Entity) -> "Callable[[SparkColumn], SparkColumn]":
    """A UDF from a line of text to its records as a JSON array."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(record_parser)
    types = {column.name: column.type for column in entity.fields}
    required, aliases = sorted(entity.required), entity.aliases

    def parse(line: str) -> str:  # the hints say what kind of UDF it is
        return json.dumps(record_parser.records_of(line, types, required, aliases))

    return F.udf(parse, "string")


def _parsed(lines: "DataFrame", entity: Entity) -> "DataFrame":
    """The records of lines, each line's a JSON array whose doubles are quoted."""
    columns = (*entity.fields, CORRUPT_RECORD)
    types = {c.name: "string" if c.type == "double" else c.type for c in columns}
    fields = ", ".join(f"`{name}`: {kind}" for name, kind in types.items())
    parsed = F.from_json("records", f"array<struct<{fields}>>")
    record = lines.select(F.explode(parsed).alias("record")).select("record.*")
    return record.select(*(F.col(c.name).cast(c.type).alias(c.name) for c in columns))


def _cleaned(entity: Entity) -> list["SparkColumn"]:
    """The columns in the contract's order; -0 is 0."""
    return [
        without_negative_zero(c.name).alias(c.name) if c.type == "double" else F.col(c.name)
        for c in (*entity.fields, CORRUPT_RECORD)
    ]
