"""Data files are fetched once into a folder that is gone with its process."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path
from threading import local
from urllib.parse import urlparse

import pytest
from botocore.exceptions import ResponseStreamingError
from click.testing import CliRunner
from pyarrow.parquet import ParquetWriter

from stedi_assets.cli.main import main
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import InputsChangedError
from stedi_assets.lakehouse import local_files
from stedi_assets.lakehouse.client import GoneError
from stedi_assets.lakehouse.delta_commit import NewFile
from stedi_assets.lakehouse.local_files import LocalFiles
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.scratch import scratch_folder
from stedi_assets.tables.schemas import TABLES, Table
from stedi_assets_tests.odd_data import T0, plain_objects
from stedi_assets_tests.test_catch_up import landed, person
from stedi_assets_tests.test_io_manager import STEPS, another_process, steps, write

DAYS = [date(2022, 6, 18), date(2022, 6, 19)]
MAKE_FOLDER = "from stedi_assets.scratch import scratch_folder; print(scratch_folder(), flush=True)"


@pytest.fixture
def lakehouse(lake) -> Lakehouse:
    return lake.pipeline.lakehouse


@pytest.fixture
def downloads(monkeypatch) -> list[str]:
    """The paths of the objects that are downloaded."""
    paths, download = [], ObjectStore.download

    def counted(self, path: str, *arguments: object) -> None:
        paths.append(path)
        download(self, path, *arguments)

    monkeypatch.setattr(ObjectStore, "download", counted)
    return paths


def test_a_data_file_is_asked_of_s3_once(lake, lakehouse, downloads):
    write(lakehouse, steps(lakehouse, *DAYS, count=3), *DAYS, rows=6)
    other = another_process(lake)
    assert other.read(STEPS).count() == 6
    assert other.read(STEPS, f"ingest_date = DATE'{DAYS[0]}'").count() == 3
    files = other.log(STEPS).by_date[DAYS[1]]
    assert other.read(STEPS, files=files).count() == 3
    assert len(downloads) == len(set(downloads)) == 2


def test_a_file_that_was_written_here_is_not_asked_of_s3(lakehouse, downloads):
    write(lakehouse, steps(lakehouse, *DAYS, count=3), *DAYS, rows=6)
    assert lakehouse.read(STEPS).count() == 6
    assert downloads == []


def test_small_results_are_one_file_a_date(lakehouse):
    for days in (DAYS[:1], DAYS):
        frame = steps(lakehouse, *days, count=500).repartition(4)
        write(lakehouse, frame, *days, rows=1000)
        assert len(lakehouse.log(STEPS).files) == len(days)


def test_a_lost_file_is_an_error_that_says_so(lake, lakehouse):
    write(lakehouse, steps(lakehouse, DAYS[0]), DAYS[0], rows=1)
    lakehouse.store.delete([f"{STEPS.path}/{file.path}" for file in lakehouse.log(STEPS).files])
    with pytest.raises(GoneError, match="NoSuchKey"):
        another_process(lake).read(STEPS)


def test_a_damaged_file_is_named_and_what_to_do(lake, lakehouse):
    write(lakehouse, steps(lakehouse, DAYS[0]), DAYS[0], rows=1)
    (file,) = lakehouse.log(STEPS).files
    lakehouse.store.put(f"{STEPS.path}/{file.path}", b"damaged")
    with pytest.raises(StediError, match=f"{file.path} is damaged: it has 7 bytes .* Delete it"):
        another_process(lake).read(STEPS)


def test_an_answer_that_is_cut_off_is_asked_for_again(lakehouse, monkeypatch, tmp_path):
    lakehouse.store.put("here", b"all of it")
    client, cut = lakehouse.store.client, iter([True, True, False])
    get_object = client.get_object

    class CutOff:
        def read(self, _size: int) -> bytes:
            raise ResponseStreamingError(error="cut off")

    def get(**arguments):
        answer = get_object(**arguments)
        return answer | {"Body": CutOff()} if next(cut) else answer

    monkeypatch.setattr(client, "get_object", get)
    lakehouse.store.download("here", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"all of it"


def test_the_folder_is_its_users_alone():
    assert scratch_folder().stat().st_mode & 0o077 == 0


def test_the_folder_is_gone_with_its_process(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    subprocess.run([sys.executable, "-c", MAKE_FOLDER], check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_deleted_by_the_next_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "stedi-scratch-link").symlink_to(tmp_path / "theirs")
    wait = f"{MAKE_FOLDER}; input()"
    living, killed = (
        subprocess.Popen(
            [sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    try:
        folders = [Path(process.stdout.readline().strip()) for process in (living, killed)]
        killed.kill()
        killed.wait()
        subprocess.run([sys.executable, "-c", MAKE_FOLDER], check=True, capture_output=True)
        assert [folder.exists() for folder in folders] == [True, False]
        assert (tmp_path / "stedi-scratch-link").exists()
    finally:
        living.kill()
        for process in (living, killed):
            process.communicate()


@pytest.mark.parametrize("command", ["tables", "audit", "query", "rebuild"])
def test_what_a_killed_process_left_is_deleted_by_every_command(lake, command):
    left = Path(tempfile.mkdtemp(prefix="stedi-scratch-"))
    (left / "rows.parquet").write_text("of somebody")
    arguments = [command, "SHOW TABLES"] if command == "query" else [command]
    CliRunner().invoke(main, arguments, input="ann@example.com")
    assert not left.exists()


def test_a_copy_that_somebody_deleted_is_fetched_again(lake, lakehouse):
    write(lakehouse, steps(lakehouse, *DAYS, count=3), *DAYS, rows=6)
    other = another_process(lake)
    assert other.read(STEPS).count() == 6
    next(scratch_folder().glob(f"data-files-*/{STEPS.name}_*/*.parquet")).unlink()
    assert other.read(STEPS).count() == 6


def test_a_copy_that_is_gone_while_it_is_read_is_an_error_and_no_fewer_rows(lake, lakehouse):
    write(lakehouse, steps(lakehouse, *DAYS, count=3), *DAYS, rows=6)
    frame = another_process(lake).read(STEPS).agg({"sensorReadingTime": "sum"})
    for copy in scratch_folder().glob(f"data-files-*/{STEPS.name}_*/*.parquet"):
        copy.unlink()
    with pytest.raises(Exception, match="No such file"):
        frame.collect()


def test_after_a_run_nobodys_readings_are_left_in_the_folder(lake):
    lake.put(plain_objects(2, DAYS[0]))
    assert lake.catch_up() > 0
    lake.pipeline.lakehouse.drop_local_files()  # what it read after the last run
    assert list(scratch_folder().iterdir()) == []


@pytest.mark.parametrize("name", ["c.json", "c.parquet"])  # for the engine, for the exact parser
def test_landed_objects_whose_copy_is_gone_are_read_again_and_never_fewer_rows(lake, name):
    table = TABLES["customer_landing"]
    lake.put(landed("customer", DAYS[0], name, person(1, 0, T0)))
    batch = lake.pipeline.read_and_compute(table, [DAYS[0]])
    shutil.rmtree(scratch_folder())
    with pytest.raises(InputsChangedError, match="were deleted: run it again"):
        lake.pipeline.write(table, [DAYS[0]], batch)
    assert lake.table("customer_landing") == Counter()
    assert lake.catch_up() > 0
    assert lake.differences() == {}


@pytest.mark.parametrize("table", ["accelerometer_landing", "customer_trusted", "dates_of_users"])
def test_what_the_engine_wrote_is_deleted_before_it_is_put_and_no_row_is_lost(
    lake, monkeypatch, table
):
    lake.put(plain_objects(2, DAYS[0]))
    write_parquet, write_table, deleted = local_files.write_parquet, LocalFiles.write, []
    writing = local()  # tables are written beside each other

    def write(self, of: Table, *arguments: object) -> list[NewFile]:
        writing.table = of.name
        return write_table(self, of, *arguments)

    def parquet(frame, uri: str, *columns: object) -> None:
        write_parquet(frame, uri, *columns)
        if writing.table == table and not deleted:
            deleted.append(uri)
            shutil.rmtree(urlparse(uri).path)

    monkeypatch.setattr(local_files, "write_parquet", parquet)
    monkeypatch.setattr(LocalFiles, "write", write)
    assert lake.catch_up() > 0
    assert deleted
    assert lake.differences() == {}
    assert lake.catch_up() == 0


def test_a_full_disk_for_temporary_files_is_said_in_a_line(lakehouse, monkeypatch):
    monkeypatch.setattr(LocalFiles, "_new_folder", no_room)
    with pytest.raises(StediError, match=r"cannot be kept in .*: No space left on device"):
        write(lakehouse, steps(lakehouse, DAYS[0]), DAYS[0], rows=1)


def test_a_folder_that_cannot_be_written_is_said_in_a_line():
    program = (
        "from stedi_assets.errors import StediError\n"
        "import os, tempfile; os.environ.pop('TMPDIR', None); tempfile.tempdir = '/nowhere'\n"
        "from stedi_assets.scratch import scratch_folder\n"
        "try: scratch_folder()\n"
        "except StediError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Temporary files cannot be kept in /nowhere: No such file")


def test_where_there_is_no_room_for_copies_landed_objects_are_read_from_s3(lake, monkeypatch):
    monkeypatch.setattr(ObjectStore, "download", no_room)
    lake.put(plain_objects(2, DAYS[0]))
    lake.pipeline.lakehouse.drop_local_files()
    frame = lake.pipeline.read_landing(TABLES["customer_landing"], [DAYS[0]]).frame
    assert frame.count() == 10
    assert list(scratch_folder().glob("landed-*")) == []


def test_an_object_that_is_replaced_while_it_is_read_is_not_taken_for_what_was_listed(
    lake, monkeypatch
):
    lake.put(plain_objects(2, DAYS[0]))
    download = ObjectStore.download

    def replaced_first(self, path: str, target: Path, etag: str | None = None) -> None:
        lake.put({path: b"{}"})
        download(self, path, target, etag)

    monkeypatch.setattr(ObjectStore, "download", replaced_first)
    with pytest.raises(InputsChangedError, match="was replaced while it was read"):
        lake.pipeline.read_landing(TABLES["customer_landing"], [DAYS[0]])


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_somebody_deleted_is_made_again(lakehouse):
    write(lakehouse, steps(lakehouse, *DAYS, count=3), *DAYS, rows=6)
    shutil.rmtree(scratch_folder())
    write(lakehouse, steps(lakehouse, DAYS[0], count=5), DAYS[0], rows=5)
    assert lakehouse.read(STEPS).count() == 8


def test_a_tmpdir_that_is_none_is_refused_and_not_passed_over():
    done = subprocess.run(
        [sys.executable, "-c", MAKE_FOLDER],
        env={**os.environ, "TMPDIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StediError: TMPDIR=/nowhere is no folder that can be written" in done.stderr


def test_a_full_disk_under_the_exact_parser_is_said_in_a_line(lake, monkeypatch):
    monkeypatch.setattr(ParquetWriter, "write_table", no_room)
    lake.put(landed("customer", DAYS[0], "c.parquet", person(1, 0, T0)))
    with pytest.raises(StediError, match="Temporary files cannot be kept"):
        lake.pipeline.read_landing(TABLES["customer_landing"], [DAYS[0]])
