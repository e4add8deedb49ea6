"""The jobs: the graph for chosen dates, and what is out of date of any table and date."""

import functools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import dagster as dg
from pydantic import Field

from stedi_assets.catalog.sync import sync_lake
from stedi_assets.defs.asset_checks import evaluations
from stedi_assets.defs.assets.common import POOL
from stedi_assets.defs.interrupts import raise_interrupts
from stedi_assets.defs.metadata import materialization_metadata
from stedi_assets.defs.table_checks import Days
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.planner import PlannedRun
from stedi_assets.incremental.reconcile import BuiltTable, build_out_of_date
from stedi_assets.spark.errors import redacted_message
from stedi_assets.tables.schemas import TABLES

_LOG = logging.getLogger(__name__)
RUN_ATTEMPTS = 3
# What `people` of a table's ledger entries are; of pairs they are claims of devices.
_MEMBERS = {
    "accelerometer_trusted": "people",
    "customers_curated": "people",
    "step_trainer_trusted": "devices",
}
Checked = dict[str, list[dg.AssetCheckEvaluation] | StediError]
# What a run does is in the instance; on the terminal only what is wrong.
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

lakehouse = dg.define_asset_job(
    # With a capital letter it sorts before Dagster's hidden `__ASSET_JOB`, so the UI's dialog
    # launches this job: the chosen dates in one run, where the hidden one would expand them.
    "Lakehouse",
    selection=dg.AssetSelection.assets(*TABLES),
    description="Builds all eight tables for the chosen ingest dates, from landed objects up.",
)


class WhatToBuild(dg.Config):
    """The configuration of the job `catch_up`."""

    without_new_dates: bool = Field(
        default=False,
        description="Only what was built before: where somebody who withdrew may be. What was begun"
        " and not finished is not built, but emptied where they may be in it. The landing sensor"
        " and `stedi catch-up` run this before new dates that keep landing; so does erasure.",
    )


@dg.op(
    pool=POOL,
    description="Builds every partition that is out of date, table by table, and checks it.",
)
def build_what_is_out_of_date(
    context: dg.OpExecutionContext, config: WhatToBuild, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    """Build and check every partition that is out of date; StediError where some of it failed."""
    if failed := build_and_report(context, pipeline, config.without_new_dates):
        raise StediError(f"{len(failed)} of what was to be done failed: {' '.join(failed)}")


def build_and_report(
    context: dg.OpExecutionContext, pipeline: Pipeline, without_new_dates: bool = False
) -> list[str]:
    """Build, check and report every partition that is out of date; what failed, a line each.

    without_new_dates: as of `WhatToBuild`.
    """
    refreshed = build_out_of_date(pipeline, context.run_id, context.log.info, without_new_dates)
    with ThreadPoolExecutor(1) as pool:
        # At the same time: checks wait for the engine, and a year's events for Dagster's database.
        checked = pool.submit(check_tables, pipeline, _dates_by_table(refreshed.built))
        for built in refreshed.built:
            for event in materializations(pipeline, built):
                context.log_event(event)
    failed = [*refreshed.failures, *report_checks(context, checked.result())]
    for line in refreshed.warnings:
        context.log.warning(line)
    for line in failed:
        context.log.error(line)
    if not failed and not refreshed.built:
        nothing = "Nothing that was built is" if without_new_dates else "Nothing is"
        context.log.info(f"{nothing} out of date.")
    if refreshed.built and pipeline.settings.glue_database:
        context.log.info(f"Glue: {sync_lake(pipeline.lakehouse)}")
    return failed


@dg.op(description="Registers the tables in STEDI_GLUE_DATABASE; changes nothing it did not make.")
def sync_glue(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Register the tables in the Glue database of STEDI_GLUE_DATABASE."""
    context.log.info(f"Glue: {sync_lake(pipeline.lakehouse)}")


@dg.job(description="Registers the eight tables in the Glue Data Catalog, for Athena.")
def sync_catalog() -> None:
    """The job of `sync_glue`."""
    sync_glue()


@dg.job(
    description="Builds whatever is out of date, of any table and ingest date, in one run:"
    " rewritten and late objects, consent that was given or withdrawn, partitions that were lost.",
)
def catch_up() -> None:
    """The job of `build_what_is_out_of_date`."""
    build_what_is_out_of_date()


def _dates_by_table(built: list[BuiltTable]) -> dict[str, Days]:
    """The dates that were built of each table; None, of a table without dates."""
    dates: dict[str, set[date]] = {}
    for table in built:
        dates.setdefault(table.table.name, set()).update(day for day in table.reasons if day)
    return {name: days or None for name, days in dates.items()}


def check_tables(pipeline: Pipeline, dates: Mapping[str, Days]) -> Checked:
    """The checks of tables; of one that cannot be checked the error, which holds up no other.

    dates: by table, the ingest dates to check (None: the whole table).
    """
    checked: Checked = {}
    for name, days in dates.items():
        try:
            checked[name] = evaluations(pipeline, TABLES[name], days)
        except StediError as error:
            checked[name] = error
    return checked


def report_checks(context: dg.OpExecutionContext, checked: Checked) -> list[str]:
    """Report every check; those that fail as an error or could not be done, a line each."""
    failed = []
    for name, done in checked.items():
        if isinstance(done, StediError):
            failed.append(str(done))
            continue
        for evaluation in done:
            context.log_event(evaluation)  # type: ignore[arg-type] # taken, and not in the type
            line = f"Check {evaluation.check_name} of {name} failed."
            if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
                failed.append(line)
            elif not evaluation.passed:
                context.log.warning(line)
    return failed


def materializations(pipeline: Pipeline, built: BuiltTable) -> list[dg.AssetMaterialization]:
    """One event for every partition that was built: its figures, and why it was out of date."""
    ledger = built.ledger or pipeline.ledger(built.table)
    newest = max((day for day in built.reasons if day), default=None)
    events = []
    for day, why in built.reasons.items():
        metadata: dict[str, Any] = materialization_metadata(
            pipeline, built.table, built.log, day, with_preview=day == newest
        )
        metadata["why"] = why
        if built.log_before:
            metadata["rows_before"] = sum(file.rows for file in built.log_before.of(day))
        entry = ledger.entries.get(day)
        before = built.ledger_before.entries.get(day) if built.ledger_before else None
        members = _MEMBERS.get(built.table.name)
        if members and entry and before and entry.people + before.people:
            metadata |= {members: entry.people, f"{members}_before": before.people}
        tags = {"dagster/data_version": entry.identity} if entry else {}
        events.append(
            dg.AssetMaterialization(
                built.table.name,
                partition=day.isoformat() if day else None,
                metadata=metadata,
                tags=tags,
            )
        )
    return events


def run_arguments(run: PlannedRun) -> dict[str, Any]:
    """A run's partition, range or configuration, for `execute_in_process`."""
    if run.start is None or run.end is None:
        op = {"config": {"without_new_dates": run.without_new_dates}}
        return {"run_config": {"ops": {build_what_is_out_of_date.name: op}}}
    if run.start == run.end:
        return {"partition_key": run.start.isoformat()}
    days = (run.start.isoformat(), run.end.isoformat())
    return {"tags": dict(zip(RANGE_TAGS, days, strict=True))}


def run_here(defs: dg.Definitions, instance: dg.DagsterInstance) -> Callable[[PlannedRun], None]:
    """A function that does a run in this process; StediError where it fails each time.

    KeyboardInterrupt where Ctrl-C or SIGTERM came.

    A run of the job `catch_up` is tried once: it tries everything by itself. Where Dagster's
    database takes no events (its disk is full), one in memory does: nobody's withdrawal waits.
    """

    @functools.cache
    def job(name: str) -> dg.JobDefinition:
        return defs.resolve_job_def(name)

    def run(planned: PlannedRun) -> None:
        name = catch_up.name if planned.is_catch_up else lakehouse.name
        attempts = 1 if planned.is_catch_up else RUN_ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                with raise_interrupts():
                    arguments = run_arguments(planned)
                    arguments["run_config"] = QUIET | arguments.get("run_config", {})
                    result = job(name).execute_in_process(
                        instance=instance, raise_on_error=False, **arguments
                    )
            except Exception as error:  # not the run's: Dagster's own, or its database's
                why = redacted_message(error)
                if instance.is_ephemeral:
                    raise StediError(f"{planned} failed: {why}") from None
                _LOG.warning("Dagster's database takes no events (%s): done without it.", why)
                with dg.DagsterInstance.ephemeral() as in_memory:
                    run_here(defs, in_memory)(planned)
                return
            if result.success:
                return
            if attempt == attempts:
                times = f" {attempts} times" if attempts > 1 else ""
                raise StediError(f"{planned} failed{times}; the log above says why.")

    return run
