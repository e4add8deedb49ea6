"""Drives the real sensor and the runs that it requests, as Dagster's daemon would."""

import subprocess
import sys

import dagster as dg

from stedi_assets.defs.sensors import ROUNDS, landing_sensor


def tick(lake, instance: dg.DagsterInstance, cursor: str = "0") -> dg.SensorResult:
    """One evaluation of the sensor."""
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        definitions=lake.defs,
        resources={"pipeline": lake.pipeline},
    ) as context:
        lake.pipeline.refresh()  # as the resource does for each tick
        return landing_sensor(context)


def execute(lake, instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    """Whether the run of a request succeeded."""
    job = lake.defs.resolve_job_def(request.job_name)
    return job.execute_in_process(
        instance=instance,
        asset_selection=request.asset_selection,
        partition_key=request.partition_key,
        tags=request.tags,
        run_config=request.run_config,
        raise_on_error=False,
    ).success


def until_quiet(lake, instance: dg.DagsterInstance, most: int = 200) -> list[dg.RunRequest]:
    """Tick and run until a round of ticks has looked at every date and asked for nothing."""
    requested: list[dg.RunRequest] = []
    cursor, quiet = "0", 0
    while quiet < ROUNDS:
        result = tick(lake, instance, cursor)
        cursor = result.cursor
        quiet = 0 if result.run_requests else quiet + 1
        for request in result.run_requests:
            execute(lake, instance, request)
            requested.append(request)
        assert len(requested) < most, "it does not become quiet"
    return requested


def catch_up_elsewhere() -> None:
    """Catch up in a process of its own, on the lake of the environment."""
    command = [sys.executable, "-m", "stedi_assets.cli", "catch-up"]
    subprocess.run(command, capture_output=True, check=True)
