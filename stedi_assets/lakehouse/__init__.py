"""Delta tables on S3 without Dagster: objects, logs, reads, atomic writes, locks."""
