"""The project's definitions in a process that kills itself around one table's commit.

For `dagster asset materialize -m stedi_assets_tests.killed`; KILLED says which table, and whether
`before` or `after` its commit.
"""

import os
import signal

from stedi_assets.definitions import defs
from stedi_assets.defs.io_managers import DeltaIOManager

__all__ = ["defs"]
_commit = DeltaIOManager._commit
_TABLE, _WHEN = os.environ["KILLED"].split()


def _commit_and_die(self, table, frame, predicate, scope):
    if table.name != _TABLE:
        return _commit(self, table, frame, predicate, scope)
    if _WHEN == "after":
        _commit(self, table, frame, predicate, scope)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


DeltaIOManager._commit = _commit_and_die
