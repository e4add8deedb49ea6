"""Compares `stedi tables --json` on standard input with the figures of the published data."""

import json
import sys

FIGURES = {
    "customer_landing": 956,
    "accelerometer_landing": 81_273,
    "step_trainer_landing": 28_680,
    "customer_trusted": 482,
    "accelerometer_trusted": 40_981,
    "step_trainer_trusted": 14_460,
    "customers_curated": 482,
    "machine_learning_curated": 40_981,
}

found = {table["table"]: table["rows"] for table in json.load(sys.stdin)}
if found != FIGURES:
    sys.exit(f"figures of the published data differ: {found}, not {FIGURES}")
print("The figures of the published data are right.")
