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
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import GoneError
from stedi_assets.lakehouse.delta_commit import NewFile, entry_path, entry_that_makes, write_parquet
from stedi_assets.lakehouse.delta_log import DataFile
from stedi_assets.lakehouse.file_statistics import statistics_of_footer
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.scratch import scratch_folder, translate_disk_errors
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.schemas import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# So many rows are written by local files at most: some hundreds of MB.
LOCAL_ROWS = 20_000_000
# So much of a table is read by local files at most, and there is of all tables.
_LOCAL_BYTES, _TOTAL_BYTES = 1 << 30, 4 << 30
# The engine writes a file for each of its tasks; of so little, a partition's become one.
_JOINED_ROWS, _JOINED_BYTES = 250_000, 64 << 20
_THREADS = 16


class LocalFiles:
    """Copies of data files that were read or written since the temporary folder was emptied."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._root: Path | None = None
        self._etags: dict[str, str] = {}  # of the objects that were copied, by the copies' names
        self._lock, self._making = Lock(), Lock()

    def fit(self, files: Sequence[DataFile]) -> bool:
        """Whether these files may be copied: a table's, and with those that are there already."""
        size = sum(file.bytes for file in files)
        with translate_disk_errors():
            there = sum(copy.stat().st_size for copy in self._folder().glob("*.parquet"))
        return size <= _LOCAL_BYTES and there + size <= _TOTAL_BYTES

    def table_of(self, table: Table, files: Sequence[DataFile]) -> Path:
        """A local Delta table of just these files, made where it is not there.

        A Delta table, and no folder of parquet files: the engine fails where one of its files is
        gone, and would read a folder without it. GoneError where S3 has one no more.
        """
        names = {file.path: _name(table, file.path) for file in files}
        key = hashlib.sha256("".join(sorted(names.values())).encode()).hexdigest()[:20]
        with translate_disk_errors():
            folder = self._folder() / f"{table.name}_{key}"
            with self._making:  # threads want the same table at once
                if not all((folder / name).exists() for name in names.values()):
                    new = self._make_table(table, files, names)
                    shutil.rmtree(folder, ignore_errors=True)
                    new.rename(folder)
        return folder

    def etag(self, table: Table, path: str) -> str | None:
        """The etag of the object that a data file's copy is of; None where there is no copy."""
        name = _name(table, path)
        return self._etags.get(name) if self._root and (self._root / name).exists() else None

    def _make_table(self, table: Table, files: Sequence[DataFile], names: dict[str, str]) -> Path:
        with ThreadPoolExecutor(_THREADS) as pool:
            copies = list(pool.map(lambda file: self._fetched(table, file), files))
        new = self._new_folder()
        for copy in copies:
            _link(copy, new / copy.name)
        added = [NewFile(names[f.path], f.bytes, f.partition, {}) for f in files]
        log = new / entry_path(table, 0).removeprefix(f"{table.path}/")
        log.parent.mkdir()
        log.write_bytes(entry_that_makes(table, added))
        return new

    def write(
        self, table: Table, frame: "DataFrame", token: str, partition: str | None = None
    ) -> list[NewFile]:
        """Write a DataFrame as data files, first here, then on S3.

        token: part of their names. partition: as for `write_parquet`. GoneError where somebody
        deleted them here meanwhile: a table must not lose rows without a word.
        """
        with translate_disk_errors():
            folder = self._new_folder()
            whole = folder / "_whole"  # whoever deletes what the engine wrote deletes it too
            try:
                whole.touch()
                write_parquet(frame, folder.as_uri(), table.partition_column, partition)
                parts = [
                    (part, f"{path}part-{token}-{number}.parquet")
                    for path, parts in _by_partition(folder)
                    for number, part in enumerate(_joined(parts))
                ]
                with ThreadPoolExecutor(_THREADS) as pool:
                    new = list(pool.map(lambda part: self._put(table, *part), parts))
                if not whole.exists():
                    raise GoneError(f"Temporary files of {table.name} were deleted: run it again.")
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return [file for file in new if file]

    def _put(self, table: Table, part: Path, path: str) -> NewFile | None:
        """Put a file at its path in the table; None where it has no rows."""
        import pyarrow.parquet as pq

        statistics = statistics_of_footer(table, pq.read_metadata(part))
        if not statistics["numRecords"]:
            return None
        with part.open("rb") as body:
            etag = self.store.put(f"{table.path}/{path}", body)
        size = part.stat().st_size
        copy = self._folder() / _name(table, path)
        self._etags[copy.name] = etag
        part.rename(copy)
        folder = path.rpartition("/")[0]
        return NewFile(path, size, unquote(folder.partition("=")[2]) or None, statistics, etag)

    def _fetched(self, table: Table, file: DataFile) -> Path:
        copy, path = self._folder() / _name(table, file.path), f"{table.path}/{file.path}"
        if not copy.exists():
            part = self._folder() / uuid.uuid4().hex
            try:
                etag = self.store.download(path, part)
                if part.stat().st_size != file.bytes:
                    raise StediError(
                        f"The data file {shown_key(path)} is damaged: it has"
                        f" {part.stat().st_size} bytes and its table's log says {file.bytes}."
                        " Delete it: `stedi catch-up` then builds again what was in it."
                    )
                self._etags[copy.name] = etag
                part.rename(copy)
            finally:
                part.unlink(missing_ok=True)
        return copy

    def _folder(self) -> Path:
        with self._lock:
            if self._root is None or not self._root.exists():
                self._root = scratch_folder() / f"data-files-{uuid.uuid4().hex}"
                self._root.mkdir()
                self._etags.clear()
            return self._root

    def _new_folder(self) -> Path:
        folder = self._folder() / uuid.uuid4().hex
        folder.mkdir()
        return folder


def _name(table: Table, path: str) -> str:
    return f"{hashlib.sha256(f'{table.path}/{path}'.encode()).hexdigest()[:32]}.parquet"


def _link(copy: Path, target: Path) -> None:
    try:
        os.link(copy, target)
    except OSError:  # no file system has to have links
        shutil.copyfile(copy, target)


def _by_partition(folder: Path) -> Iterable[tuple[str, list[Path]]]:
    """The parquet files in a folder that the engine wrote, by their partition's folder."""
    found: dict[str, list[Path]] = {}
    for part in sorted(folder.rglob("*.parquet")):
        parent = part.parent.relative_to(folder).as_posix()
        found.setdefault("" if parent == "." else f"{parent}/", []).append(part)
    return found.items()


def _joined(parts: list[Path]) -> list[Path]:
    """The files of a partition; one file where there is little in them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    footers = [pq.read_metadata(part) for part in parts]
    groups = [footer.row_group(n) for footer in footers for n in range(footer.num_row_groups)]
    rows, size = sum(g.num_rows for g in groups), sum(g.total_byte_size for g in groups)
    if len(parts) < 2 or rows > _JOINED_ROWS or size > _JOINED_BYTES:
        return parts
    whole = pa.concat_tables([pq.ParquetFile(part).read(use_threads=False) for part in parts])
    pq.write_table(whole, parts[0], compression="zstd")
    return parts[:1]
