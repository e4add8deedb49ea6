"""The lake's tables for Athena: their registration in the Glue Data Catalog, and queries."""
