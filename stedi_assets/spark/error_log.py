"""Full texts of engine errors in files of this user, for whoever has to find the cause.

They may quote personal data, so each is readable by its owner only and lives for a few days.
"""

import os
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

# Of a year of dates that all fail the first cause is kept.
MAX_FILES = 1_000
MAX_AGE_DAYS = 7


def write_error_log(text: str, folder: Path | None) -> Path | None:
    """Write a text to a new file of mode 0600 and return its path.

    Args:
        text: what the engine said.
        folder: where to; made with mode 0700. None writes nothing.

    Returns:
        None where nothing was written: the log is off, the folder is another user's, or full.
    """
    if folder is None:
        return None
    name = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{secrets.token_hex(4)}.txt"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return None
        folder.chmod(0o700)
        _remove_old(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(
            os.open(folder / name, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError:  # the error itself matters more
        return None
    return folder / name


def _remove_old(folder: Path) -> None:
    """Leave room for one more, and nothing that is older than a week."""
    files = sorted(folder.glob("*-*.txt"), key=lambda path: path.name)
    oldest = time.time() - MAX_AGE_DAYS * 86_400
    for path in files:
        with suppress(FileNotFoundError):
            if path in files[: max(0, len(files) - MAX_FILES + 1)] or path.stat().st_mtime < oldest:
                path.unlink()
