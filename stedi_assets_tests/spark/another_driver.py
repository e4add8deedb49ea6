"""A second driver, a JVM of its own, that writes a day of a table again and again.

python -m stedi_assets_tests.spark.another_driver DAY WRITES
"""

import sys
from datetime import date

from stedi_assets.defs.io_managers import Dates, DeltaIOManager
from stedi_assets.tables.schemas import TABLES

STEPS = TABLES["step_trainer_trusted"]


def write(io: DeltaIOManager, day: date, rows: int) -> None:
    """Replace a day by some rows."""
    columns = ", ".join(f"{c.name} {c.type}" for c in STEPS.columns)
    made = [(n, "d", n, day) for n in range(rows)]
    io.write(STEPS, io.spark.spark_session.createDataFrame(made, columns), Dates(day, day))


def main() -> None:
    from stedi_assets.definitions import io_manager

    day, writes = date.fromisoformat(sys.argv[1]), int(sys.argv[2])
    _ = io_manager.spark.spark_session
    print("ready", flush=True)
    for rows in range(1, writes + 1):
        write(io_manager, day, rows)


if __name__ == "__main__":
    main()
