"""Landed objects: where they lie, how they are uploaded and how they are parsed."""
