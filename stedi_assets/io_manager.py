"""The IO manager: Delta tables on S3, by partition, by range or whole, one atomic commit a write.

What belongs here: scopes, atomicity, retries, what a materialization tells. What does not: what
a table means (`assets/`), what its columns are (`schemas.py`).
"""

import functools
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from stedi_assets import stale
from stedi_assets.bookkeeping import LandingWrite, Listings, mark_whole
from stedi_assets.engine import SparkSessions, diagnosis
from stedi_assets.engine_differences import is_lost_race, refusing
from stedi_assets.lake import DataFile, Lake, TableLog, open_lake
from stedi_assets.landed import landed_objects, read_landed
from stedi_assets.schemas import ENTITIES, TABLES, Entity, Table, spark_schema
from stedi_assets.settings import StediError, load_settings, today
from stedi_assets.write_lock import write_lock

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Input metadata: of the days before the ones being written, read only rows whose reading time
# lies within the times of these tables on the days being written.
EARLIER_ROWS = "stedi/earlier_rows_within_times_of"
ATTEMPTS = 10
# Of the runs of this process, by run and table: what a step saw before it read its inputs.
_SEEN_MARKS: dict[tuple[str, str], list[stale.Mark]] = {}
_LISTINGS: dict[tuple[str, str], Listings] = {}


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

    def __str__(self) -> str:
        return f"{self.start}" if self.start == self.end else f"{self.start} to {self.end}"


def earlier_predicate(dates: Dates, written: Iterable[DataFile]) -> str:
    """SQL for rows of the dates, and for earlier ones within the times of the written files."""
    times = sorted(
        (f.first_time, f.last_time)
        for f in written
        if f.first_time is not None and f.last_time is not None
    )
    merged: list[tuple[int, int]] = []
    for first, last in times:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    ranges = " OR ".join(f"({{time}} >= {a} AND {{time}} <= {b})" for a, b in merged) or "false"
    return f"({dates.predicate}) OR (ingest_date < DATE'{dates.start}' AND ({ranges}))"


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

    def load_input(self, context: dg.InputContext) -> "DataFrame":
        """The upstream table as a DataFrame: its partitions that the run asks for, or all of it."""
        table = TABLES[context.asset_key.path[-1]]
        self._see_marks(context)
        if not table.partitioned or not context.has_asset_partitions:
            return self.read(table)
        dates = Dates.of(context.asset_partition_key_range)
        within = (context.definition_metadata or {}).get(EARLIER_ROWS)
        if within is None:
            return self.read(table, dates.predicate)
        written = Dates.of(context.step_context.asset_partition_key_range_for_output("result"))
        return self.read_up_to(table, written, list(within))

    def read_up_to(self, table: Table, written: Dates, within: list[str]) -> "DataFrame":
        """Rows of the written dates, and the earlier ones within the times of some tables there."""
        files = [
            file
            for name in within
            for file in self._log(TABLES[name]).of(written.start, written.end)
        ]
        predicate = earlier_predicate(written, files)
        return self.read(table, predicate.format(time=f"`{table.time_column}`"))

    def read(self, table: Table, predicate: str | None = None) -> "DataFrame":
        """A table, or its rows that a SQL predicate takes; StediError where it is not there."""
        self._log(table)
        frame = self.spark.spark_session.read.format("delta").load(
            self.lake.settings.uri(table.path)
        )
        frame = frame.select(*table.column_names)
        return frame if predicate is None else frame.where(predicate)

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
            self.write(table, obj, dates)
            landing.after()
        stale.clear(self.lake, self._seen(context, table, dates))
        self._report(context, table, dates)

    def _see_marks(self, context: dg.InputContext) -> None:
        """Remember the stale marks that are there before a step reads its inputs."""
        table = context.step_context.op.name
        key = (context.step_context.run_id, table)
        if key not in _SEEN_MARKS:
            _SEEN_MARKS[key] = stale.marks(self.lake, table)

    def _seen(
        self, context: dg.OutputContext, table: Table, dates: Dates | None
    ) -> list[stale.Mark]:
        """The marks that this write answers: seen before it read, of the dates it wrote."""
        return [
            mark
            for mark in _SEEN_MARKS.pop((context.run_id, table.name), [])
            if dates is None
            or (mark.ingest_date is not None and dates.start <= mark.ingest_date <= dates.end)
        ]

    def write(self, table: Table, frame: "DataFrame", dates: Dates | None) -> None:
        """Replace the dates of a table (None: all of it) by a DataFrame, in one atomic commit.

        StediError where columns or types are not the contract's or a row lies outside the dates.
        """
        check_columns(table, frame)
        if self.lake.log(table) is None:
            self._create(table)
        with write_lock(self.lake, table.name):
            self._commit(table, _guarded(table, frame, dates), dates)

    def _create(self, table: Table) -> None:
        from deltalake import DeltaTable, Field, Schema
        from deltalake.schema import PrimitiveType

        names = {"bigint": "long", "double": "double", "string": "string", "date": "date"}
        DeltaTable.create(
            self.lake.settings.uri(table.path),
            Schema([Field(c.name, PrimitiveType(names[c.type])) for c in table.columns]),
            mode="ignore",
            partition_by=["ingest_date"] if table.partitioned else None,
            description=table.row,
            storage_options=self.lake.storage_options,
        )

    def _commit(self, table: Table, frame: "DataFrame", dates: Dates | None) -> None:
        writer = frame.write.format("delta").mode("overwrite")
        if dates is not None:
            writer = writer.option("replaceWhere", dates.predicate)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                writer.save(self.lake.settings.uri(table.path))
            except Exception as error:  # the engines' own error classes have nothing in common
                if is_lost_race(error) and attempt < ATTEMPTS:
                    time.sleep(random.uniform(0, min(5.0, 0.05 * 2**attempt)))
                    continue
                scope = f" for {dates}" if dates else ""
                why = diagnosis(error, self.lake.settings.spark) or first_line(str(error))
                raise StediError(f"{table.name} was not written{scope}: {why}") from None
            return

    # ------------------------------------------------------------------ telling

    def _report(self, context: dg.OutputContext, table: Table, dates: Dates | None) -> None:
        log = self._log(table)
        files = log.of(dates.start, dates.end) if dates else list(log.files)
        metadata: dict[str, Any] = {
            "dagster/uri": self.lake.settings.uri(table.path),
            "delta_version": log.version,
            "size": dg.MetadataValue.int(sum(f.bytes for f in files)),
            "files": len(files),
            "preview": dg.MetadataValue.md(self._preview(table, dates)),
        }
        if table.name.endswith("_landing"):
            metadata["malformed"] = sum(f.malformed for f in files)
        rows = sum(f.rows for f in files)
        if dates is None:
            context.add_output_metadata({**metadata, "dagster/row_count": rows})
        elif dates.start == dates.end:
            context.add_output_metadata({**metadata, "dagster/partition_row_count": rows})
        else:
            self._report_each(context, metadata, log)

    def _report_each(
        self, context: dg.OutputContext, metadata: dict[str, Any], log: TableLog
    ) -> None:
        """In a range run every partition has its own count; the rest is the same for all."""
        rows = log.rows_by_date()
        execution = dg.AssetExecutionContext.get()
        for key in context.asset_partition_keys:
            count = rows.get(date.fromisoformat(key), 0)
            execution.add_asset_metadata(
                {**metadata, "dagster/partition_row_count": count}, partition_key=key
            )

    def _preview(self, table: Table, dates: Dates | None) -> str:
        import pyarrow.dataset as pads

        delta = self.lake.delta(table)
        where = None
        if dates is not None:
            day = pads.field("ingest_date")
            where = (day >= dates.start) & (day <= dates.end)
        rows = delta.to_pyarrow_dataset().head(5, filter=where).to_pylist()
        return preview(table, rows)


def preview(table: Table, rows: list[dict[str, Any]]) -> str:
    """Rows as a markdown table in which no personal value can be read."""
    names = table.column_names
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [
            "•••" if name in table.personal_columns and row[name] is not None else str(row[name])
            for name in names
        ]
        lines.append("| " + " | ".join("" if cell == "None" else cell for cell in cells) + " |")
    return "\n".join(lines)


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


def first_line(message: str) -> str:
    """The first line of an engine's message, without what it quotes of the data."""
    line = message.strip().splitlines()[0] if message.strip() else "no message"
    return line[:300]


class LandedObjects(dg.ConfigurableIOManager):
    """Reads the landed objects of the days that a landing table's run writes."""

    io_manager: dg.ResourceDependency[DeltaIOManager]

    def load_input(self, context: dg.InputContext) -> "DataFrame":
        """The records landed on the days: fields, `_corrupt_record`, `ingest_date`."""
        entity = ENTITIES[context.asset_key.path[-1].removesuffix("_objects")]
        days = [date.fromisoformat(key) for key in context.asset_partition_keys]
        listings = {day: landed_objects(self.io_manager.lake, entity.name, day) for day in days}
        _LISTINGS[context.step_context.run_id, f"{entity.name}_landing"] = listings
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
