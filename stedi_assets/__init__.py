"""The STEDI lakehouse as Dagster assets; start reading at `definitions.py` or `tables/`."""

import gc

# Importing Dagster and Spark makes a million objects, and by its defaults Python's collector walks
# them again and again meanwhile: half a second of every command.
gc.set_threshold(100_000, 20, 20)
