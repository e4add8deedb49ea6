"""Sample data and real data do not mix: a lake that holds a sample is marked as such."""

from pathlib import Path

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.object_store import ObjectStore

MARK = "_stedi/sample.json"


class MixedDataError(StediError):
    """Sample data would mix with real data, or the reverse; the message says what to do."""


def is_sample(source: Path) -> bool:
    """Whether a folder is what `stedi sample` wrote."""
    try:
        return "seed" in parse_json((source / "sample.json").read_text("utf-8"))["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse_mixing(lake: ObjectStore, source: Path) -> None:
    """Compare what is to land with what the lake holds; an empty lake keeps which it is.

    Args:
        lake: where it is to land.
        source: the folder that is to land.

    Raises:
        MixedDataError: one of them is sample data and the other is not.
    """
    if is_sample(source) == (lake.get(MARK) is not None):
        return
    if next(lake.objects("landing/"), None) is not None:
        ours, theirs = ("sample", "other") if is_sample(source) else ("not sample", "sample")
        elsewhere = "`STEDI_HOME=DIR stedi local -- COMMAND…` is another"
        raise MixedDataError(
            f"{source} is {ours} data and {lake.settings.lake} holds {theirs} data: take another"
            f" lake ({elsewhere if lake.settings.embedded else 'set STEDI_LAKE'}), or land beside"
            " it with --mix."
        )
    if is_sample(source):
        lake.put_json(MARK, {"sample": True})
    else:
        lake.delete([MARK])
