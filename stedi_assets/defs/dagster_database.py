"""Dagster's SQLite databases, where runs are kept on SQLite: written without waiting for the disk.

Dagster opens a connection for every event and SQLite waits for the disk six times for each: half
a second of a small run on an idle local disk, more on a busy or a distant one. A process that dies
loses nothing so; a machine that loses power may lose or damage Dagster's record of its runs, from
which no table follows. PostgreSQL, production's storage, is not concerned (docs/decisions/0008).
"""

import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


def write_sqlite_without_waiting() -> None:
    """From here on SQLite connections of this process do not wait for the disk."""
    event.listen(Engine, "connect", _do_not_wait)


def _do_not_wait(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")
