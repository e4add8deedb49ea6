"""Objects that no engine can be trusted with, read here: streamed, parsed exactly, handed over.

Their records become Parquet files in a temporary folder, so that neither this process nor a message
to an engine holds an object as a whole, whatever its size. One object after another fails or not:
what cannot be read is one malformed row that names it.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing import record_parser
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.object_text import RefusedError, UnreadableError, text_chunks
from stedi_assets.scratch import scratch_folder
from stedi_assets.tables.schemas import CORRUPT_RECORD, Entity, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

THREADS = 8
# So many rows, or characters of malformed text, are held of an object at a time.
_BATCH_ROWS, _BATCH_TEXT = 20_000, 4 << 20
_FRAME_BYTES = 16 << 20  # in one message to an engine that does not see this machine's files
_TYPES = {"string": pyarrow.string(), "bigint": pyarrow.int64(), "double": pyarrow.float64()}

Row = dict[str, Any]


def read_exactly(
    spark: "SparkSession", store: ObjectStore, entity: Entity, objects: list[LandedObject]
) -> "tuple[list[DataFrame], list[Path], list[LandedObject]]":
    """The records of objects as DataFrames: the entity's fields, then `_corrupt_record`.

    Also the local files that these are read from, and the objects that S3 refuses to give.
    """
    folder = Path(tempfile.mkdtemp(prefix="landed-", dir=scratch_folder()))
    try:
        refused = _write(store, entity, objects, folder)
        if store.settings.spark == "embedded":
            schema = spark_schema((*entity.fields, CORRUPT_RECORD))
            frame = spark.read.schema(schema).parquet(folder.as_uri())
            return [frame], [*folder.iterdir()], refused
        frames = [spark.createDataFrame(table) for table in _tables(folder)]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return frames, [], refused


def _tables(folder: Path) -> Iterator[pyarrow.Table]:
    """What the files hold, in tables of a size that one message takes."""
    for path in sorted(folder.iterdir()):
        groups: list[pyarrow.Table] = []
        with parquet.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                groups.append(file.read_row_group(number))
                if sum(group.nbytes for group in groups) > _FRAME_BYTES:
                    yield pyarrow.concat_tables(groups)
                    groups = []
        if groups or path.name == _SHARED:
            yield pyarrow.concat_tables([file.schema_arrow.empty_table(), *groups])


_SHARED = "many.parquet"


class _Spool:
    """Rows as Parquet files in a folder: the small objects' in one file, each big one's apart."""

    def __init__(self, entity: Entity, folder: Path) -> None:
        columns = (*entity.fields, CORRUPT_RECORD)
        self._schema = pyarrow.schema([(c.name, _TYPES[c.type]) for c in columns])
        self._folder, self._names = folder, count()
        self._rows: list[Row] = []
        self._lock = threading.Lock()
        self._shared = parquet.ParquetWriter(folder / _SHARED, self._schema)

    def add(self, rows: list[Row]) -> None:
        """Add the rows of a small object, from any thread."""
        with self._lock:
            self._rows += rows
            if len(self._rows) >= _BATCH_ROWS or _text_length(self._rows) >= _BATCH_TEXT:
                self._flush()

    def add_apart(self, batches: Iterable[list[Row]]) -> None:
        """Add the rows of a big object, all of them or, where they raise, none."""
        path = self._folder / f"{next(self._names)}.parquet"
        try:
            with parquet.ParquetWriter(path, self._schema) as writer:
                for rows in batches:
                    writer.write_table(pyarrow.Table.from_pylist(rows, self._schema))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._shared.close()

    def _flush(self) -> None:
        if self._rows:
            self._shared.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []


def _text_length(rows: list[Row]) -> int:
    return sum(len(row.get(CORRUPT_RECORD.name, "")) for row in rows)


def _write(
    store: ObjectStore, entity: Entity, objects: list[LandedObject], folder: Path
) -> list[LandedObject]:
    """Write the records of objects into a folder; the objects that S3 refuses to give."""
    spool = _Spool(entity, folder)
    parse = _record_maker(entity)
    with ThreadPoolExecutor(THREADS) as pool:
        refused = list(pool.map(partial(_write_object, store, parse, spool), objects))
    spool.close()
    return [o for o, is_refused in zip(objects, refused, strict=True) if is_refused]


def _write_object(
    store: ObjectStore,
    parse: Callable[[record_parser.Piece], Row],
    spool: _Spool,
    landed_object: LandedObject,
) -> bool:
    """Write the records of an object, or the one row that says why not; whether S3 refused it.

    PreconditionError where the object is not what was listed.
    """
    most = store.settings.max_record_bytes
    text = text_chunks(store, landed_object.key, etag=f'"{landed_object.etag}"')
    pieces = record_parser.pieces_of_text(text, most)
    batches = _batches(map(parse, pieces))
    try:
        first, second = next(batches, []), next(batches, None)
        if second is None:
            spool.add(first)
        else:
            spool.add_apart(chain([first, second], batches))
    except (UnreadableError, record_parser.TooLongError) as error:
        spool.add([{CORRUPT_RECORD.name: f"unreadable object {landed_object.key}: {error}"}])
        return isinstance(error, RefusedError)
    except GoneError as error:  # or S3 says so once: what is listed then tells
        raise PreconditionError(str(error)) from error
    return False


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    text = 0
    for row in rows:
        batch.append(row)
        text += len(row.get(CORRUPT_RECORD.name, ""))
        if len(batch) >= _BATCH_ROWS or text >= _BATCH_TEXT:
            yield batch
            batch, text = [], 0
    if batch:
        yield batch


def _record_maker(entity: Entity) -> Callable[[record_parser.Piece], Row]:
    """A function from a piece of text to its record, its doubles as such."""
    types = {column.name: column.type for column in entity.fields}
    required, aliases = sorted(entity.required), entity.aliases
    doubles = [name for name, kind in types.items() if kind == "double"]

    def parse(piece: record_parser.Piece) -> Row:
        record = record_parser.record_of(*piece, types, required, aliases)
        return record | {name: float(record[name]) for name in doubles if name in record}

    return parse
