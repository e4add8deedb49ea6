"""Assembles the project for Dagster: `dagster dev`, `dagster asset materialize -m` load this."""

import atexit
import gc

import dagster as dg

from stedi_assets.defs.asset_checks import asset_checks
from stedi_assets.defs.assets import curated, landing, trusted
from stedi_assets.defs.io_managers import DeltaIOManager, LandedObjects
from stedi_assets.defs.schedules import daily_sweep, maintenance, schedules
from stedi_assets.defs.sensors import lakehouse, landing_sensor, settle_membership
from stedi_assets.spark.session import SparkSessions

spark = SparkSessions()
io_manager = DeltaIOManager(spark=spark)

defs = dg.Definitions(
    assets=[
        *landing.landed_objects,
        # "Open in editor", from an asset's page to its rule.
        *dg.with_source_code_references(dg.load_assets_from_modules([landing, trusted, curated])),
    ],
    asset_checks=asset_checks,
    jobs=[lakehouse, settle_membership, daily_sweep, maintenance],
    sensors=[landing_sensor],
    schedules=schedules,
    resources={
        "spark": spark,
        "io_manager": io_manager,
        "landed_objects": LandedObjects(io_manager=io_manager),
    },
    # One process a run: in eight processes the imports and sessions cost ten times the work.
    executor=dg.in_process_executor,
)

# A process that ends need not look through all that was imported for what could be freed: half a
# second of every command.
atexit.register(gc.freeze)
