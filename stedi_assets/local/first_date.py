"""The embedded lake's first ingest date: the first on which anything landed there.

So its partitions begin with its data, and a partition without rows means work to do. It is kept in
STEDI_HOME beside the lake, where `load_settings` finds it. A lake of one's own has its first date
from STEDI_FIRST_INGEST_DATE alone.
"""

import os
from contextlib import suppress
from datetime import date
from pathlib import Path

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.object_store import ObjectStore, open_store
from stedi_assets.landing.layout import landed_dates
from stedi_assets.landing.upload import dates_of
from stedi_assets.settings import Settings, first_date_file, load_settings, today


def adopt_first_date_of(source: Path, ingest_date: date) -> None:
    """Before SOURCE lands on an embedded lake that has no tables and no first date: set it.

    ingest_date: the day on which what is in no `ingest_date=` folder lands.
    """
    settings = load_settings()
    days = dates_of(source, ingest_date) if _is_free(settings) else set()
    if landing := {day for day in days if day <= today()}:
        _keep(min(landing))


def adopt_first_landed_date(store: ObjectStore) -> None:
    """On an embedded lake that is to be built anew: the first date that landed becomes its first.

    Where STEDI_FIRST_INGEST_DATE is set, that is its first one.
    """
    settings = store.settings
    if settings.is_default_embedded and not os.environ.get("STEDI_FIRST_INGEST_DATE"):
        dates_by_entity = landed_dates(store.client, settings.bucket, settings.prefix)
        if days := {day for days in dates_by_entity.values() for day in days if day <= today()}:
            _keep(min(days))


def _is_free(settings: Settings) -> bool:
    if not settings.is_default_embedded or os.environ.get("STEDI_FIRST_INGEST_DATE"):
        return False
    if first_date_file().exists():
        return False
    with suppress(StediError):  # it is not running: whoever lands says so
        return open_store(settings).get("_stedi/settings.json") is None
    return False


def _keep(day: date) -> None:
    file = first_date_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{day}\n")
