"""A folder for this process's temporary files: its user's alone, and gone when the process ends."""

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stedi_assets.errors import StediError

_PREFIX = "stedi-scratch-"


def scratch_folder() -> Path:
    """The folder, in the system's one for temporary files (TMPDIR), made when it is first used.

    Records of people lie in it, so what a killed process left there is deleted by the next one
    and by every command.
    StediError where it cannot be made.
    """
    wanted = os.environ.get("TMPDIR")
    with translate_disk_errors():
        if wanted and os.path.abspath(wanted) != tempfile.gettempdir():
            # Python would take another folder without a word, on another disk perhaps.
            raise StediError(f"TMPDIR={wanted} is no folder that can be written: correct it.")
        folder = _folder_of(os.getpid())
        if not folder.exists():  # somebody deleted it
            _folder_of.cache_clear()
            folder = _folder_of(os.getpid())
        return folder


def empty_scratch_folder() -> None:
    """Delete what is in the folder; nothing of it may be in use."""
    for path in scratch_folder().iterdir():
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def translate_disk_errors() -> Iterator[None]:
    """Raise an OSError of what is done in the folder as a StediError."""
    try:
        yield
    except OSError as error:
        root = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")
        why = error.strerror or type(error).__name__
        raise StediError(
            f"Temporary files cannot be kept in {root}: {why}."
            " Make room there, or set TMPDIR to another folder; then run again."
        ) from error


@functools.cache
def _folder_of(pid: int) -> Path:
    delete_leftovers()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Locked as long as the process is. systemd's cleaner leaves a locked folder alone, too.
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # another process may have taken it for a leftover
            break
        os.close(lock)
    atexit.register(_delete, folder, pid)
    return folder


def _delete(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers() -> None:
    """Delete what killed processes of this user left; what cannot be deleted stays."""
    folders: list[Path] = []
    with suppress(OSError):  # no folder for temporary files: whoever needs one says so
        folders = list(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    for folder in folders:
        with suppress(OSError):  # its process lives, or another deletes it
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
