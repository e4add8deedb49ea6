"""Partitions that need no run and that Dagster does not know: reported, so that missing means work.

On a date on which nothing landed no run is requested, and what another Dagster home built is
unknown here.
"""

from datetime import date, timedelta

import dagster as dg

from stedi_assets.defs.jobs import materializations
from stedi_assets.incremental.ledger import PartitionKey
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.planner import Reasons, downstream_out_of_date, landing_out_of_date
from stedi_assets.incremental.reconcile import BuiltTable
from stedi_assets.lakehouse.dates import days_between
from stedi_assets.landing.listing import list_landing
from stedi_assets.settings import today
from stedi_assets.tables.schemas import TABLES, Table

# Partitions of a table that a sweep reports at most: an event takes Dagster some 10 ms on SQLite,
# and a lake that begins years before its data has thousands of empty ones.
MAX_REPORTED = 150


def report_idle_partitions(instance: dg.DagsterInstance, pipeline: Pipeline) -> int:
    """Report the partitions that need no run and that Dagster does not know; how many.

    No run is requested for a date on which nothing landed, so its partitions would be missing for
    ever; reported with 0 rows, a missing partition always means work to do. What is to be built
    follows from the lake alone, so an object that lands there later is run as ever. Today is still
    open. The newest MAX_REPORTED of a table are reported, the others by the next sweeps.
    """
    days = days_between(pipeline.settings.first_ingest_date, today() - timedelta(1))
    missing: dict[str, list[date]] = {}
    for table in TABLES.values():
        if table.partitioned and pipeline.lakehouse.log(table) is not None:
            known = instance.get_materialized_partitions(dg.AssetKey(table.name))
            missing[table.name] = [day for day in days if day.isoformat() not in known]
    if not any(missing.values()):
        return 0
    stale = _out_of_date(pipeline)
    to_build = {day for reasons in stale.values() for day in reasons if day}
    reported = 0
    for table in TABLES.values():
        # Tables without dates are reported with the others: they are as fresh.
        keys: list[PartitionKey] = [] if table.partitioned or table.name in stale else [None]
        keys += [d for d in missing.get(table.name, ()) if d not in to_build][-MAX_REPORTED:]
        reported += _report(instance, pipeline, table, keys)
    return reported


def _out_of_date(pipeline: Pipeline) -> dict[str, Reasons]:
    """What is out of date now, of all tables, also where a landing table is."""
    pipeline.refresh()
    listing = list_landing(pipeline.lakehouse.store)
    landing = landing_out_of_date(pipeline.state(with_membership=False), listing)
    return landing | downstream_out_of_date(pipeline.state())


def _report(
    instance: dg.DagsterInstance, pipeline: Pipeline, table: Table, keys: list[PartitionKey]
) -> int:
    log = pipeline.lakehouse.log(table)
    if log is None or not keys:
        return 0
    why: Reasons = {key: "up to date" if log.of(key) else "nothing landed" for key in keys}
    for event in materializations(pipeline, BuiltTable(table, why, log)):
        instance.report_runless_asset_event(event)
    return len(keys)
