"""Local copies of data files, for the embedded engine: one S3 request a file, and none again.

The engine takes three requests to read a file on S3, at every action, and four and more to write
one. A data file never changes, so it is fetched once into a temporary folder of this process and
read there; new ones are written there first. Huge tables are left to the engine.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stedi_assets.lakehouse.delta_commit import NewFile
from stedi_assets.lakehouse.delta_log import DataFile
from stedi_assets.lakehouse.file_statistics import statistics_of_footer
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.scratch import scratch_folder
from stedi_assets.tables.schemas import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# So many rows are read or written by local files at most: some 200 MB of them.
LOCAL_ROWS = 20_000_000
# The engine writes a file for each of its tasks; of so few rows, a partition's become one.
_JOINED_ROWS = 250_000
_THREADS = 16


class LocalFiles:
    """The data files that were read or written lately."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    @cached_property
    def _folder(self) -> Path:
        folder = scratch_folder() / f"data-files-{uuid.uuid4().hex}"
        folder.mkdir()
        return folder

    def folder_of(self, table: Table, files: Sequence[DataFile]) -> str:
        """The URI of a local folder with these files, by partition; GoneError where one is lost."""
        with ThreadPoolExecutor(_THREADS) as pool:
            copies = list(pool.map(lambda file: self._fetched(table, file.path), files))
        folder = self._new_folder()
        for file, copy in zip(files, copies, strict=True):
            parent = folder / (
                f"{table.partition_column}={file.partition}" if file.partition else ""
            )
            parent.mkdir(exist_ok=True)
            os.link(copy, parent / copy.name)
        return folder.as_uri()

    def write(
        self, table: Table, frame: "DataFrame", token: str, partition: str | None = None
    ) -> list[NewFile]:
        """Write a DataFrame as data files, first here, then on S3.

        token: part of their names. partition: the one value of the partition column that all rows
        have, where that is known: then every core writes, where else one does for each value.
        """
        folder, column = self._new_folder(), table.partition_column
        writer = frame.write.mode("append")
        if column and partition:
            writer = frame.drop(column).write.mode("append")
            writer.parquet((folder / f"{column}={partition}").as_uri())
        elif column:
            writer.partitionBy(column).parquet(folder.as_uri())
        else:
            writer.parquet(folder.as_uri())
        parts = [
            (part, f"{path}part-{token}-{number}.parquet")
            for path, parts in _by_partition(folder)
            for number, part in enumerate(_joined(parts))
        ]
        with ThreadPoolExecutor(_THREADS) as pool:
            new = list(pool.map(lambda part: self._put(table, *part), parts))
        shutil.rmtree(folder)
        return [file for file in new if file]

    def _put(self, table: Table, part: Path, path: str) -> NewFile | None:
        """Put a file at its path in the table; None where it has no rows."""
        import pyarrow.parquet as pq

        statistics = statistics_of_footer(table, pq.read_metadata(part))
        if not statistics["numRecords"]:
            return None
        with part.open("rb") as body:
            self.store.put(f"{table.path}/{path}", body)
        size = part.stat().st_size
        part.rename(self._copy(table, path))
        folder = path.rpartition("/")[0]
        return NewFile(path, size, unquote(folder.partition("=")[2]) or None, statistics)

    def _fetched(self, table: Table, path: str) -> Path:
        copy = self._copy(table, path)
        if not copy.exists():
            part = self._folder / uuid.uuid4().hex
            try:
                self.store.download(f"{table.path}/{path}", part)
                part.rename(copy)
            finally:
                part.unlink(missing_ok=True)
        return copy

    def _copy(self, table: Table, path: str) -> Path:
        name = hashlib.sha256(f"{table.path}/{path}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.parquet"

    def _new_folder(self) -> Path:
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        return folder


def _by_partition(folder: Path) -> Iterable[tuple[str, list[Path]]]:
    """The parquet files in a folder that the engine wrote, by their partition's folder."""
    found: dict[str, list[Path]] = {}
    for part in sorted(folder.rglob("*.parquet")):
        parent = part.parent.relative_to(folder).as_posix()
        found.setdefault("" if parent == "." else f"{parent}/", []).append(part)
    return found.items()


def _joined(parts: list[Path]) -> list[Path]:
    """The files of a partition; one file where they have few rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(parts) < 2 or sum(pq.read_metadata(p).num_rows for p in parts) > _JOINED_ROWS:
        return parts
    rows = pa.concat_tables([pq.ParquetFile(part).read(use_threads=False) for part in parts])
    pq.write_table(rows, parts[0], compression="zstd")
    return parts[:1]
