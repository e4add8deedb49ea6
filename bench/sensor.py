"""What a tick of the sensor costs on a lake with many ingest dates and objects.

python -m bench.sensor [--dates 1000] [--objects 100000] [--ticks 20]: lands empty objects on an
embedded server of its own, fills in the ledger as if all of them were built, and prints seconds,
seconds of CPU, requests to S3 and the cursor's size a tick. Then an object lands in a new,
an old and a middling date, and the ticks until it is seen are counted.
"""

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from stedi_assets.local.s3_server import local_environment, local_s3
from stedi_assets.settings import EMBEDDED_SALT, today
from stedi_assets.tables.schemas import ENTITIES, TABLES, spark_schema

THREADS = 16


def land(lake: Any, days: list[date], objects: int) -> None:
    """Land objects, as many in every date, by all entities in turn."""
    entities = list(ENTITIES)

    def put(number: int) -> None:
        day, entity = days[number % len(days)], entities[number // len(days) % len(entities)]
        key = f"landing/{entity}/ingest_date={day}/{number:07}.json"
        lake.client.put_object(Bucket=lake.settings.bucket, Key=lake.settings.key(key), Body=b"")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, range(objects)))


def settle(pipeline: Any) -> None:
    """The tables and ledgers as they are once everything was built: none of the objects is read."""
    from stedi_assets.incremental.pipeline import Batch
    from stedi_assets.incremental.reconcile import build_out_of_date
    from stedi_assets.landing.listing import list_landing

    listing = list_landing(pipeline.lakehouse.store)
    times = {landed: time.timestamp() for landed, time in listing.last_modified.items()}
    for entity in ENTITIES:
        table = TABLES[f"{entity}_landing"]
        found = {day: list(o) for (name, day), o in listing.objects.items() if name == entity}
        rows = pipeline.lakehouse.spark_session.createDataFrame([], spark_schema(table.columns))
        state = pipeline.state(with_membership=False)
        pipeline.write(table, list(found), Batch(rows, state, 0, found, times))
    failures = build_out_of_date(pipeline).failures
    if failures:
        raise SystemExit("\n".join(failures))


def tick(pipeline: Any, defs: Any, instance: Any, cursor: str | None) -> Any:
    """One evaluation of the sensor."""
    import dagster as dg

    from stedi_assets.defs.sensors import landing_sensor

    resources = {"pipeline": pipeline}
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources=resources
    ) as context:
        pipeline.refresh()  # as the resource does for each tick
        return landing_sensor(context)


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, default=1000)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=20)
    arguments = parser.parse_args()
    first = today() - timedelta(arguments.dates - 1)
    days = [first + timedelta(n) for n in range(arguments.dates)]
    with tempfile.TemporaryDirectory() as folder, local_s3(Path(folder) / "s3") as server:
        own = {name: value for name, value in os.environ.items() if not name.startswith("STEDI_")}
        os.environ.update(local_environment(server, own, EMBEDDED_SALT))
        os.environ |= {"STEDI_FIRST_INGEST_DATE": str(first), "STEDI_QUIET_SECONDS": "0"}
        measure(days, arguments.objects, arguments.ticks)


def measure(days: list[date], objects: int, ticks: int) -> None:
    """Land, settle, tick."""
    import dagster as dg

    from stedi_assets.definitions import build_definitions, build_pipeline
    from stedi_assets.settings import load_settings

    pipeline = build_pipeline(load_settings())
    defs, lake = build_definitions(pipeline), pipeline.lakehouse.store
    land(lake, days, objects)
    settle(pipeline)
    requests = [0]
    lake.client.meta.events.register(
        "before-send.s3", lambda **_: requests.__setitem__(0, requests[0] + 1)
    )
    seconds, cpu, sent, cursor = [], [], [], None
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(ticks + 1):
            before = time.perf_counter(), time.process_time(), requests[0]
            result = tick(pipeline, defs, instance, cursor)
            if result.run_requests:
                raise SystemExit("the sensor asks for a run although nothing changed")
            seconds.append(time.perf_counter() - before[0])
            cpu.append(time.process_time() - before[1])
            sent.append(requests[0] - before[2])
            cursor = result.cursor
        print(f"{len(days)} dates, {objects} objects, {ticks} ticks after a first one:")
        for name, values in (("seconds", seconds), ("CPU seconds", cpu), ("requests", sent)):
            print(f"  {name}: median {median(values[1:]):.2f}, most {max(values[1:]):.2f}")
        print(f"  first tick {seconds[0]:.2f} s; cursor {len(cursor or '')} bytes")
        for day in (days[-1], days[0], days[len(days) // 2]):
            late = f"landing/customer/ingest_date={day}/late.json"
            lake.client.put_object(Bucket=lake.settings.bucket, Key=late, Body=b"{}")
            number, requested = 0, []
            while not requested:
                result = tick(pipeline, defs, instance, cursor)
                cursor, requested, number = result.cursor, result.run_requests, number + 1
            print(f"  an object in {day} is seen at tick {number}")
            lake.delete([late])


if __name__ == "__main__":
    main()
