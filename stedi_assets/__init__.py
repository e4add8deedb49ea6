"""The STEDI lakehouse as Dagster assets; start reading at `definitions.py` or `assets/`."""

import atexit
import gc

# Importing Dagster and Spark makes a million objects. By its defaults Python's collector would walk
# them again and again while they are made, and once more at the end: a second of every command.
gc.set_threshold(100_000, 20, 20)
atexit.register(gc.freeze)
