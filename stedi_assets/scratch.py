"""A folder for this process's temporary files: its user's alone, and gone when the process ends."""

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_PREFIX, _LOCK = "stedi-scratch-", "lock"


def scratch_folder() -> Path:
    """The folder, in the system's one for temporary files (TMPDIR), made when it is first used.

    Records of people lie in it, so what a killed process left there is deleted by the next one.
    """
    return _folder_of(os.getpid())


def delete_with(frames: "Iterable[DataFrame]", folder: Path) -> None:
    """Delete a folder when no DataFrame is left that is made from any of these."""
    plans = [frame._plan for frame in frames]  # plans made from one hold it
    left = len(plans)

    def one_is_gone() -> None:
        nonlocal left
        left -= 1
        if not left:
            shutil.rmtree(folder, ignore_errors=True)

    for plan in plans:
        weakref.finalize(plan, one_is_gone)
    if not plans:
        shutil.rmtree(folder)


@functools.cache
def _folder_of(pid: int) -> Path:
    _delete_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(folder / "new", os.O_CREAT | os.O_RDWR, 0o600)  # open as long as the process is
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "new").rename(folder / _LOCK)
    atexit.register(_delete, folder, pid)
    return folder


def _delete(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _delete_leftovers() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its process lives, or another deletes it
            continue
