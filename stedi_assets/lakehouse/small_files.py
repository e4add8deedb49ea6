"""Small data files read and written by this process: one S3 request a file, and none again.

The embedded engine takes three requests to read a file, at every action, and four and more to open
a table. A data file never changes, so one that is small is fetched once and handed to the engine as
rows. Large files are left to the engine.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Lock
from typing import Any

from stedi_assets.lakehouse.delta_commit import NewFile
from stedi_assets.lakehouse.delta_log import DataFile
from stedi_assets.lakehouse.file_statistics import statistics_of_rows
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.tables.schemas import Table

# So many rows are handed over at most: some 20 MB, and a fraction of a second.
SMALL_ROWS = 250_000
_CACHE_BYTES = 256 << 20
_THREADS = 16


def arrow_schema(table: Table) -> Any:
    """The table's columns as an Arrow schema."""
    import pyarrow as pa

    types = {
        "bigint": pa.int64(),
        "double": pa.float64(),
        "string": pa.string(),
        "date": pa.date32(),
    }
    return pa.schema([(c.name, types[c.type]) for c in table.columns])


class SmallFiles:
    """The rows of small data files that were read or written lately, by path."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._rows: OrderedDict[str, Any] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, table: Table, files: Sequence[DataFile]) -> Any:
        """The rows of some files as one Arrow table; GoneError where a file is lost."""
        import pyarrow as pa

        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(pool.map(lambda file: self._read_file(table, file), files))
        return pa.concat_tables([arrow_schema(table).empty_table(), *parts])

    def _read_file(self, table: Table, file: DataFile) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        key = f"{table.path}/{file.path}"
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return self._rows[key]
        body = self.store.get_range(key, 0, file.bytes)
        rows = pq.ParquetFile(BytesIO(body)).read(use_threads=False)
        schema = arrow_schema(table)
        if table.partition_column and table.partition_column not in rows.column_names:
            value = pa.scalar(file.partition).cast(pa.date32())
            column = pa.repeat(value, rows.num_rows)
            rows = rows.append_column(table.partition_column, column)
        rows = rows.select(schema.names).cast(schema)
        self._keep(key, rows)
        return rows

    def _keep(self, key: str, rows: Any) -> None:
        with self._lock:
            replaced = self._rows.pop(key, None)
            self._rows[key] = rows
            self._bytes += rows.nbytes - (replaced.nbytes if replaced is not None else 0)
            while self._bytes > _CACHE_BYTES:
                self._bytes -= self._rows.popitem(last=False)[1].nbytes

    def write(self, table: Table, rows: Any, token: str) -> list[NewFile]:
        """Write the rows of an Arrow table as parquet, one file a value of the partition column."""
        rows = rows.select(arrow_schema(table).names).cast(arrow_schema(table))
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(
                pool.map(
                    lambda part: self._write_file(table, part[0], part[1], token),
                    _parts(table, rows),
                )
            )

    def _write_file(self, table: Table, partition: str | None, rows: Any, token: str) -> NewFile:
        import pyarrow.parquet as pq

        column = table.partition_column
        folder = f"{column}={partition}/" if column else ""
        path = f"{folder}part-{token}.parquet"
        body = BytesIO()
        pq.write_table(rows.drop_columns([column]) if column else rows, body, compression="zstd")
        data = body.getvalue()
        self.store.put(f"{table.path}/{path}", data)
        self._keep(f"{table.path}/{path}", rows)
        return NewFile(path, len(data), partition, statistics_of_rows(table, rows))


def _parts(table: Table, rows: Any) -> Iterable[tuple[str | None, Any]]:
    """The rows by value of the partition column, as text; one part where there is none."""
    import pyarrow.compute as pc

    column = table.partition_column
    if not rows.num_rows:
        return
    if column is None:
        yield None, rows
        return
    for value in pc.unique(rows[column]):
        yield str(value.as_py()), rows.filter(pc.equal(rows[column], value))
