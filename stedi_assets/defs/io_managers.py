"""The IO manager: a thin adapter between Dagster's steps and the pipeline that reads and writes."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg

from stedi_assets.defs.metadata import materialization_metadata, megabytes, rate, rows_of
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Batch, InputsChangedError, Pipeline
from stedi_assets.lakehouse.dates import days_between, described
from stedi_assets.lakehouse.delta_log import TableLog
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.schemas import TABLES, Table

_RETRIES = 3


class LakehouseIOManager(dg.IOManager):
    """Reads and writes the eight Delta tables, and reads landed objects."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def load_input(self, context: dg.InputContext) -> Batch:
        """An upstream table, or landed objects, as far as the dates being written need it."""
        table = TABLES[context.step_context.op.name]
        upstream = context.asset_key.path[-1]
        with _again_where_inputs_change(), redact_engine_errors(f"Reading {upstream}"):
            days = _days(table, context.step_context.asset_partition_key_range_for_output)
            if table.zone == "landing":
                return self.pipeline.read_landing(table, days)
            return self.pipeline.read_input(table, upstream, days)

    def handle_output(self, context: dg.OutputContext, obj: Batch) -> None:
        """Replace the dates that the run writes, or the whole table, in one commit."""
        table = TABLES[context.asset_key.path[-1]]
        days = _days(table, lambda _output: context.asset_partition_key_range)
        start = time.monotonic()
        with _again_where_inputs_change(), redact_engine_errors(f"Writing {table.name}"):
            log = self.pipeline.write(
                table, days if table.partitioned else None, obj, context.run_id
            )
        took = rate(log, days, time.monotonic() - start)
        scope = f" for {described(days)}" if days else ""
        rows = rows_of(log, days)
        context.log.info(f"Wrote {rows} rows{scope} of {table.name}; {took['run_seconds']} s.")
        _report(context, self.pipeline, table, log, days, took)
        for event in landed_observations(table, obj):
            context.log_event(event)


@contextmanager
def _again_where_inputs_change() -> Iterator[None]:
    """Have the step read anew and compute again where somebody else was first."""
    try:
        yield
    except InputsChangedError as error:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=1) from error


def _days(table: Table, key_range: Any) -> list[date]:
    """The ingest dates that a step writes; none, of an unpartitioned table.

    StediError where a range was typed the wrong way round.
    """
    if not table.partitioned:
        return []
    keys = key_range("result")
    days = days_between(date.fromisoformat(keys.start), date.fromisoformat(keys.end))
    if not days:
        raise StediError(
            f"The range {keys.start}...{keys.end} holds no ingest date: its first comes first."
        )
    return days


def _report(
    context: dg.OutputContext,
    pipeline: Pipeline,
    table: Table,
    log: TableLog,
    days: Collection[date],
    took: dict[str, int | float],
) -> None:
    """Say what was written; in a range run every date says its own."""
    if len(days) < 2:
        day = next(iter(days), None)
        context.add_output_metadata(materialization_metadata(pipeline, table, log, day) | took)
        return
    execution = dg.AssetExecutionContext.get()
    for day in days:
        metadata = materialization_metadata(
            pipeline, table, log, day, with_preview=day == max(days)
        )
        execution.add_asset_metadata(metadata | took, partition_key=day.isoformat())


def landed_observations(table: Table, batch: Batch) -> list[dg.AssetObservation]:
    """What a landing table's dates were built from: objects and bytes, of the objects' asset."""
    return [
        dg.AssetObservation(
            table.name.replace("_landing", "_objects"),
            partition=day.isoformat(),
            metadata={"objects": len(objects), "size_mb": megabytes(o.size for o in objects)},
        )
        for day, objects in batch.listings.items()
    ]
