"""A second driver, a JVM of its own, that writes a day of a table again and again.

python -m stedi_assets_tests.spark.another_driver DAY WRITES
"""

import sys
from datetime import date

from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.tables.schemas import TABLES

STEPS = TABLES["step_trainer_trusted"]


def write(lakehouse: Lakehouse, day: date, rows: int) -> None:
    """Replace a day by some rows."""
    columns = ", ".join(f"{c.name} {c.type}" for c in STEPS.columns)
    made = [(n, "d", n, day) for n in range(rows)]
    frame = lakehouse.spark_session.createDataFrame(made, columns)
    with write_lock(lakehouse.store, STEPS.name):
        lakehouse.replace(STEPS, frame, [day])


def main() -> None:
    from stedi_assets.definitions import pipeline

    day, writes = date.fromisoformat(sys.argv[1]), int(sys.argv[2])
    _ = pipeline.lakehouse.spark_session
    print("ready", flush=True)
    for rows in range(1, writes + 1):
        write(pipeline.lakehouse, day, rows)


if __name__ == "__main__":
    main()
