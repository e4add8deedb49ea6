"""The engine: sessions, options, errors, and where engines differ."""
