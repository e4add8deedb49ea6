"""Tests. What this clone's own lake landed first must not decide the partitions they run on."""

import os

# Before any test module imports the definitions, which hold the partitions.
os.environ["STEDI_FIRST_INGEST_DATE"] = "2022-06-18"
