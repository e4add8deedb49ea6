"""Runs a command while it holds a lock: `python exclusive.py wait|refuse FILE WHAT COMMAND…`.

For the Makefile, before there is an environment: it needs nothing but Python. With `wait` a
second one waits for the first, with `refuse` it ends with a line that says so.
"""

import fcntl
import os
import sys
from typing import NoReturn


def main(arguments: list[str]) -> NoReturn:
    """Become the command once the lock is held; exit with 1 where it is refused.

    Args:
        arguments: `wait` or `refuse`, the lock's file, what runs (for the message), the command.
    """
    mode, path, what, *command = arguments
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        sys.exit(f"{path} cannot be made: {error.strerror}. Correct that, or STEDI_HOME.")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "?"
        if mode == "refuse":
            sys.exit(f"{what} already runs here (process {holder}): stop it first.")
        print(f"Waiting for another {what} (process {holder}) to end …", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    os.set_inheritable(lock, True)  # the command holds it until it ends
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
