"""Temporary views of the engine's session: a plan that names one is short and opens no table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from stedi_assets.spark.session import SparkSessions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# A DataFrame names its view until it is computed: no step reads so many versions of a table
# before it computes the first.
MAX_VIEWS = 20


@dataclass
class SessionViews:
    """The views that were made in the session, by what they are of; the oldest ones go."""

    spark: SparkSessions
    _names: dict[str, dict[str, None]] = field(default_factory=dict, init=False)
    _session: Any = field(default=None, init=False)
    _held: int = field(default=0, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def view(self, of: str, name: str, make: "Callable[[], DataFrame]") -> "DataFrame":
        """The view of a name, made where the session does not have it.

        of: what it is a view of; so many are kept of each.
        """
        session = self.spark.spark_session
        with self._lock:
            if self._session is not session:
                self._session, self._names = session, {}
            names = self._names.setdefault(of, {})
            if name not in names:
                make().createOrReplaceTempView(name)
                names[name] = None
                for old in list(names)[:-MAX_VIEWS]:
                    names.pop(old, None)
                    session.catalog.dropTempView(old)
        return session.table(name)

    def drop(self) -> None:
        """Drop all views; no DataFrame that names one may be in use."""
        with self._lock:
            names, self._names = self._names, {}
            if self._session is not None and self._session is self.spark.spark_session:
                for name in (name for of in names.values() for name in of):
                    self._session.catalog.dropTempView(name)

    def held(self, frame: "DataFrame") -> "DataFrame":
        """The rows of a DataFrame, computed now, as a view."""
        rows = frame.toArrow()
        if not rows.num_rows:
            return frame
        with self._lock:
            self._held += 1
            name = f"held_{self._held}"
        return self.view("held", name, lambda: self.spark.spark_session.createDataFrame(rows))
