"""The IO manager: Delta tables on S3, by partition, by range or whole, one atomic commit a write.

What belongs here: scopes, atomicity, retries, what a materialization tells. What does not: what
a table means (`assets/`), what its columns are (`schemas.py`).
"""

import functools
import random
import time
import uuid
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from stedi_assets.defs.metadata import materialization_metadata
from stedi_assets.errors import StediError
from stedi_assets.incremental import stale_markers as stale
from stedi_assets.incremental.landing_commit import LandingWrite, Listings, mark_whole
from stedi_assets.incremental.rollups import SUMMARIES, summarized
from stedi_assets.lakehouse.object_store import DataFile, Lake, TableLog, open_lake
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.landing.reader import landed_objects, read_landed
from stedi_assets.settings import load_settings, today
from stedi_assets.spark.dialect import is_lost_race, refusing
from stedi_assets.spark.errors import redact_engine_errors, redacted_message
from stedi_assets.spark.session import SparkSessions
from stedi_assets.tables.schemas import ENTITIES, TABLES, Entity, Table, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Input metadata: of the days before the ones being written, read only rows whose reading time
# lies within the times of these tables on the days being written.
EARLIER_ROWS = "stedi/earlier_rows_within_times_of"
# Input metadata: of the whole table, read what this summary of it (`summaries.py`) keeps.
SUMMARY = "stedi/summary"
_DAY = 86_400_000
# Files whose readings span more than this are looked into; so many spans a predicate holds.
_WIDE, _MOST_SPANS = 3 * _DAY, 100
ATTEMPTS = 10
THREADS = 8
_ENGINES = ("pyspark", "py4j", "grpc")
# Of the runs of this process, by run and table: what a step saw before it read its inputs. Those of
# failed steps nobody takes out, so the oldest go: no process has so many steps under way.
_MOST_REMEMBERED = 200
_SEEN: dict[tuple[str, str], "Seen"] = {}
_LISTINGS: dict[tuple[str, str], Listings] = {}
# The views of a session by table, one a version, oldest first. A DataFrame names its view until it
# is computed: no step reads so many versions of a table before it computes the first.
_MOST_VERSIONS = 20
_VIEWS: "weakref.WeakKeyDictionary[Any, dict[str, dict[str, None]]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Dates:
    """The ingest dates from start to end, both included."""

    start: date
    end: date

    @classmethod
    def of(cls, keys: Any) -> "Dates":
        """From Dagster's partition key range."""
        return cls(date.fromisoformat(keys.start), date.fromisoformat(keys.end))

    @property
    def predicate(self) -> str:
        """The dates as SQL."""
        return f"ingest_date >= DATE'{self.start}' AND ingest_date <= DATE'{self.end}'"

    @property
    def days(self) -> list[date]:
        """Each of the dates."""
        return [self.start + timedelta(n) for n in range((self.end - self.start).days + 1)]

    def __str__(self) -> str:
        return f"{self.start}" if self.start == self.end else f"{self.start} to {self.end}"


@dataclass
class Seen:
    """Before a step read: the stale marks of its table, and the versions of its inputs."""

    marks: list[stale.Mark]
    versions: dict[str, int | None] = field(default_factory=dict)


def _remember(kept: dict[tuple[str, str], Any], key: tuple[str, str], value: Any) -> None:
    kept[key] = value
    for old in list(kept)[:-_MOST_REMEMBERED]:
        kept.pop(old, None)


Span = tuple[int, int]  # first and last moment, both included, ms since the epoch


def spans_of(files: Iterable[DataFile]) -> list[Span]:
    """The times of some files' readings, by the Delta log; in order, overlapping ones as one."""
    return merged(
        (f.first_time, f.last_time)
        for f in files
        if f.first_time is not None and f.last_time is not None
    )


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those that overlap or follow at once as one."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def earlier_predicate(dates: Dates, spans: Iterable[Span], time_column: str) -> str:
    """SQL for rows of the dates, and for earlier ones within some spans of time."""
    times = [f"(`{time_column}` >= {a} AND `{time_column}` <= {b})" for a, b in spans]
    earlier = f"ingest_date < DATE'{dates.start}' AND ({' OR '.join(times) or 'false'})"
    return f"({dates.predicate}) OR ({earlier})"


class DeltaIOManager(dg.ConfigurableIOManager):
    """Reads and writes the eight tables as Delta tables under STEDI_LAKE."""

    spark: dg.ResourceDependency[SparkSessions]

    @property
    def lake(self) -> Lake:
        """The lake, checked once: it answers and was built with our settings."""
        lake = open_lake(load_settings())
        lake.check()
        return lake

    # ------------------------------------------------------------------ reading

    @redact_engine_errors("Reading an input")
    def load_input(self, context: dg.InputContext) -> "DataFrame":
        """The upstream table as a DataFrame: its partitions that the run asks for, or all of it."""
        table = TABLES[context.asset_key.path[-1]]
        self._see(context, table)
        metadata = context.definition_metadata or {}
        if SUMMARY in metadata:
            return summarized(self, SUMMARIES[metadata[SUMMARY]])
        if not table.partitioned or not context.has_asset_partitions:
            return self.read(table)
        dates = Dates.of(context.asset_partition_key_range)
        within = metadata.get(EARLIER_ROWS)
        if within is None:
            return self.read(table, dates.predicate)
        written = Dates.of(context.step_context.asset_partition_key_range_for_output("result"))
        return self.read_up_to(table, written, list(within))

    def read_up_to(self, table: Table, written: Dates, within: list[str]) -> "DataFrame":
        """Rows of the written dates, and the earlier ones within the times of some tables there."""
        tables = [TABLES[name] for name in within]
        spans = merged(
            span
            for one in tables
            for span in spans_of(self._log(one).of(written.start, written.end))
        )
        if any(last - first > _WIDE for first, last in spans):
            # A straggler from long ago would have all of history read: look closer.
            days = merged(span for one in tables for span in self._days_with_readings(one, written))
            spans = days if len(days) <= _MOST_SPANS else spans
        assert table.time_column is not None, "a table of readings"
        return self.read(table, earlier_predicate(written, spans, table.time_column))

    def _days_with_readings(self, table: Table, written: Dates) -> list[Span]:
        """The days (UTC) on which the readings of some ingest dates were taken."""
        from pyspark.sql import functions as F

        rows = self.read(table, written.predicate)
        day = F.floor(F.col(str(table.time_column)) / _DAY).cast("bigint").alias("day")
        found = rows.groupBy(day).agg(F.count("ingest_date").alias("n")).collect()
        return [(d.day * _DAY, (d.day + 1) * _DAY - 1) for d in found if d.day is not None]

    def read(self, table: Table, predicate: str | None = None) -> "DataFrame":
        """A table, or its rows that a SQL predicate takes; StediError where it is not there.

        As it is now: writes that come later do not show in the DataFrame.
        """
        frame = self._snapshot(table, self._log(table))
        return frame if predicate is None else frame.where(predicate)

    def _snapshot(self, table: Table, log: TableLog) -> "DataFrame":
        """A table at a version, by a view: Sail opens a path anew for every plan that names it."""
        spark, uri = self.spark.spark_session, self.lake.settings.uri(table.path)
        name = f"{table.name}_{log.table_id.replace('-', '')}_v{log.version}"
        views = _VIEWS.setdefault(spark, {}).setdefault(table.name, {})
        if name not in views:
            reader = spark.read.format("delta").option("versionAsOf", str(log.version))
            reader.load(uri).select(*table.column_names).createOrReplaceTempView(name)
            views[name] = None
            for old in list(views)[:-_MOST_VERSIONS]:
                views.pop(old, None)
                spark.catalog.dropTempView(old)
        return spark.table(name)

    def _log(self, table: Table) -> TableLog:
        log = self.lake.log(table)
        if log is None:
            raise StediError(
                f"{table.name} was never materialized: materialize it first, with"
                f" `dagster asset materialize -m stedi_assets.definitions --select {table.name}"
                f"{' --partition ' + str(today()) if table.partitioned else ''}`."
            )
        return log

    # ------------------------------------------------------------------ writing

    @redact_engine_errors("Writing a table")
    def handle_output(self, context: dg.OutputContext, obj: "DataFrame") -> None:
        """Replace the partitions that the run writes, or the whole table, in one commit."""
        table = TABLES[context.asset_key.path[-1]]
        dates = (
            Dates.of(context.asset_partition_key_range)
            if table.partitioned and context.has_asset_partitions
            else None
        )
        listings = _LISTINGS.pop((context.run_id, table.name), None)
        if listings is None:
            mark_whole(self.lake, table)
            self.write(table, obj, dates)
        else:
            landing = LandingWrite(self.lake, table, listings)
            landing.before()
            landing.after(self.write(table, obj, dates))
            observe(context, table, listings)
        self._answer_marks(context, table, dates)
        self._report(context, table, dates)

    def _see(self, context: dg.InputContext, table: Table) -> None:
        """Remember what is there before a step reads its inputs."""
        name = context.step_context.op.name
        key = (context.step_context.run_id, name)
        if key not in _SEEN:
            self.lake.look_again()
            _remember(_SEEN, key, Seen(stale.marks(self.lake, name)))
        _SEEN[key].versions[table.name] = self._log(table).version

    def _answer_marks(self, context: dg.OutputContext, table: Table, dates: Dates | None) -> None:
        """Clear the marks that this write answers: seen before it read, of the dates it wrote.

        Where another run wrote an input meanwhile, this write may stand over a newer one of
        that run: the dates are marked again.
        """
        seen = _SEEN.pop((context.run_id, table.name), None)
        if seen is None:
            return
        self.lake.look_again()
        for name, version in seen.versions.items():
            if self._log(TABLES[name]).version != version:
                stale.mark(self.lake, table.name, dates.days if dates else [None])
                break
        answered = [
            mark
            for mark in seen.marks
            if dates is None
            or (mark.ingest_date is not None and dates.start <= mark.ingest_date <= dates.end)
        ]
        stale.clear(self.lake, answered)

    def write(self, table: Table, frame: "DataFrame", dates: Dates | None) -> str:
        """Replace the dates of a table (None: all of it) by a DataFrame, in one atomic commit.

        The token that the commit carries in its `userMetadata`. StediError where columns or
        types are not the contract's or a row lies outside the dates.
        """
        check_columns(table, frame)
        guarded = _guarded(table, frame, dates)
        if dates is None:
            return self.replace(table, guarded)
        return self.replace(table, guarded, dates.predicate, f" for {dates}")

    def replace(
        self, table: Table, frame: "DataFrame", predicate: str = "true", scope: str = ""
    ) -> str:
        """Replace the rows that a SQL predicate takes, in one atomic commit.

        scope: the predicate as an error says it. The token that the commit carries in its
        `userMetadata`.
        """
        if not self.lake.has(table):
            self._create(table)
        with write_lock(self.lake, table.name):
            token = self._commit(table, frame, predicate, scope)
        self.lake.look_again(table)
        return token

    def _create(self, table: Table) -> None:
        from deltalake import DeltaTable, Field, Schema
        from deltalake.exceptions import CommitFailedError, DeltaError
        from deltalake.schema import PrimitiveType

        names = {"bigint": "long", "double": "double", "string": "string", "date": "date"}
        try:
            DeltaTable.create(
                self.lake.settings.uri(table.path),
                Schema([Field(c.name, PrimitiveType(names[c.type])) for c in table.columns]),
                mode="ignore",
                partition_by=[table.partition_column] if table.partition_column else None,
                description=table.row,
                storage_options=self.lake.storage_options,
            )
        except CommitFailedError:
            pass  # another run created it meanwhile
        except (DeltaError, OSError) as error:
            line = redacted_message(error)
            raise StediError(f"{table.name} was not created: {line}") from None
        self.lake.look_again(table)

    def _commit(self, table: Table, frame: "DataFrame", predicate: str, scope: str) -> str:
        # Always with a predicate: an overwrite without one of a table that is empty is for Sail a
        # blind append, which never conflicts: of two at once both would stay.
        token = uuid.uuid4().hex
        writer = frame.write.format("delta").mode("overwrite").option("userMetadata", token)
        writer = writer.option("replaceWhere", predicate)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                writer.save(self.lake.settings.uri(table.path))
            except Exception as error:  # the engines' own error classes have nothing in common
                if is_lost_race(error) and attempt < ATTEMPTS:
                    time.sleep(random.uniform(0, min(5.0, 0.05 * 2**attempt)))
                    continue
                why = redacted_message(error, load_settings().spark)
                raise StediError(f"{table.name} was not written{scope}: {why}") from None
            else:
                return token
        raise AssertionError("the last attempt returns or raises")

    # ------------------------------------------------------------------ telling

    def _report(self, context: dg.OutputContext, table: Table, dates: Dates | None) -> None:
        """Say what was written; in a range run every partition says its own."""
        tell = functools.partial(materialization_metadata, self.lake, table, self._log(table))
        if dates is None or dates.start == dates.end:
            context.add_output_metadata(tell(dates.start if dates else None))
            return
        keys = list(context.asset_partition_keys)
        execution = dg.AssetExecutionContext.get()
        with ThreadPoolExecutor(THREADS) as pool:
            told = pool.map(tell, map(date.fromisoformat, keys))
            for key, metadata in zip(keys, told, strict=True):
                execution.add_asset_metadata(metadata, partition_key=key)


def observe(context: dg.OutputContext, table: Table, listings: Listings) -> None:
    """Say on the landed objects' asset what the days were built from: objects and bytes."""
    for day, objects in listings.items():
        context.log_event(
            dg.AssetObservation(
                table.name.replace("_landing", "_objects"),
                partition=day.isoformat(),
                metadata={"objects": len(objects), "size": sum(one.size for one in objects)},
            )
        )


def check_columns(table: Table, frame: "DataFrame") -> None:
    """StediError where the DataFrame's columns are not the contract's, in names, types, order."""
    wanted = {f.name: f.dataType.simpleString() for f in spark_schema(table.columns).fields}
    found = {f.name: f.dataType.simpleString() for f in frame.schema.fields}
    if list(found.items()) == list(wanted.items()):
        return
    wrong = [
        *(f"{name} is missing" for name in wanted if name not in found),
        *(f"{name} is not in the contract" for name in found if name not in wanted),
        *(
            f"{name} is {found[name]}, not {wanted[name]}"
            for name in wanted
            if name in found and found[name] != wanted[name]
        ),
    ] or [f"their order is not {', '.join(wanted)}"]
    raise StediError(f"Columns of {table.name} differ from the contract: {'; '.join(wrong)}.")


def _guarded(table: Table, frame: "DataFrame", dates: Dates | None) -> "DataFrame":
    """The frame, failing at a row outside the dates."""
    from pyspark.sql import functions as F

    if dates is None:
        return frame
    message = F.concat(
        F.lit(f"a row of {table.name} has ingest_date "),
        F.coalesce(F.col("ingest_date").cast("string"), F.lit("null")),
        F.lit(f", outside the dates being written, {dates}"),
    )
    return refusing(frame, dates.predicate, "ingest_date", message)


class LandedObjects(dg.ConfigurableIOManager):
    """Reads the landed objects of the days that a landing table's run writes."""

    io_manager: dg.ResourceDependency[DeltaIOManager]

    @redact_engine_errors("Reading landed objects")
    def load_input(self, context: dg.InputContext) -> "DataFrame":
        """The records landed on the days: fields, `_corrupt_record`, `ingest_date`."""
        self.io_manager.lake.look_again()
        entity = ENTITIES[context.asset_key.path[-1].removesuffix("_objects")]
        days = [date.fromisoformat(key) for key in context.asset_partition_keys]
        listings = {day: landed_objects(self.io_manager.lake, entity.name, day) for day in days}
        key = (context.step_context.run_id, f"{entity.name}_landing")
        _remember(_LISTINGS, key, listings)
        return read_days(self.io_manager, entity, listings)

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Never called: producers write landed objects, the project does not."""
        raise StediError("Landed objects are never written by an asset.")


def read_days(io: DeltaIOManager, entity: Entity, listings: Listings) -> "DataFrame":
    """The records in some days' objects, with their `ingest_date`."""
    from pyspark.sql import functions as F

    frames = [
        read_landed(io.spark.spark_session, io.lake, entity, objects).withColumn(
            "ingest_date", F.lit(day.isoformat()).cast("date")
        )
        for day, objects in listings.items()
    ]
    return functools.reduce(lambda whole, frame: whole.unionAll(frame), frames)
