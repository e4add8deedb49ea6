"""Assembles the project for Dagster: `dagster dev`, `dagster asset materialize -m` load this."""

import atexit
import gc
import threading
from collections.abc import Iterator

import dagster as dg

from stedi_assets.defs.alerts import alerts_sensor
from stedi_assets.defs.asset_checks import asset_checks
from stedi_assets.defs.assets import curated, landing, trusted
from stedi_assets.defs.io_managers import LakehouseIOManager
from stedi_assets.defs.jobs import catch_up, lakehouse, sync_catalog
from stedi_assets.defs.schedules import daily_sweep, maintenance, schedules
from stedi_assets.defs.sensors import landing_sensor
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.lakehouse.object_store import open_store
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.settings import Settings, load_settings
from stedi_assets.spark.session import SparkSessions

# Dagster gives a sensor's tick up after 60 seconds.
WAIT_SECONDS = 30


def build_pipeline(settings: Settings) -> Pipeline:
    """The pipeline over the lake of some settings; nothing is asked of S3 yet."""
    return Pipeline(Lakehouse(open_store(settings), SparkSessions()))


def build_definitions(pipeline: Pipeline) -> dg.Definitions:
    """The project's definitions over a pipeline."""
    in_use = threading.Lock()

    @dg.resource(description="The lake's tables and ledgers, read anew at the start of a run.")
    def pipeline_of_a_run(_context: dg.InitResourceContext) -> Iterator[Pipeline]:
        # Ticks of a code server are threads of it, and overlap where one takes long or somebody
        # tests a sensor: each reads logs anew and deletes local files that the other works with.
        if not in_use.acquire(timeout=WAIT_SECONDS):
            raise StediError(
                "Another evaluation in this process is still at work on the lake, for more than"
                f" {WAIT_SECONDS} seconds: the next tick goes on, or evaluate it again."
            )
        try:
            pipeline.refresh()
            yield pipeline
        finally:
            try:
                # The code server lives for months: nobody's readings stay on its disk.
                pipeline.lakehouse.drop_local_files()
            finally:
                in_use.release()

    @dg.io_manager(required_resource_keys={"pipeline"})
    def io_manager(context: dg.InitResourceContext) -> LakehouseIOManager:
        return LakehouseIOManager(context.resources.pipeline)

    return dg.Definitions(
        assets=[
            *landing.landed_objects,
            # "Open in editor", from an asset's page to its code.
            *dg.with_source_code_references(
                dg.load_assets_from_modules([landing, trusted, curated])
            ),
        ],
        asset_checks=asset_checks,
        jobs=[lakehouse, catch_up, daily_sweep, maintenance, sync_catalog],
        sensors=[landing_sensor, alerts_sensor],
        schedules=schedules,
        resources={"pipeline": pipeline_of_a_run, "io_manager": io_manager},
        # One process a run: in eight processes imports and sessions cost ten times the work.
        executor=dg.in_process_executor,
    )


pipeline = build_pipeline(load_settings())
defs = build_definitions(pipeline)

# A process that ends need not look through all that was imported for what could be freed: half a
# second of every command.
atexit.register(gc.freeze)
