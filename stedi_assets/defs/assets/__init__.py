"""The tables as assets: one function an asset; what its rows are is in `tables/`."""
