"""The project's definitions in a process that kills itself around one table's commit.

For `dagster asset materialize -m stedi_assets_tests.killed`; KILLED says which table, and whether
`before` or `after` its commit.
"""

import os
import signal

from stedi_assets.definitions import defs
from stedi_assets.lakehouse.tables import Lakehouse

__all__ = ["defs"]
_replace = Lakehouse.replace
_TABLE, _WHEN = os.environ["KILLED"].split()


def _replace_and_die(self, table, *arguments, **named):
    if table.name != _TABLE:
        return _replace(self, table, *arguments, **named)
    if _WHEN == "after":
        _replace(self, table, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


Lakehouse.replace = _replace_and_die
