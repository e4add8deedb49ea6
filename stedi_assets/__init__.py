"""The STEDI lakehouse as Dagster assets; start reading at `definitions.py` or `assets/`."""
