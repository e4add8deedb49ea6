"""The `stedi` command: everything that a person runs, except `dagster` itself."""

import click

from stedi_assets.cli import alerts, catalog, data, local, privacy, runs
from stedi_assets.cli.common import CommandGroup, example


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("stedi local -- stedi tables"),
)
@click.version_option(package_name="stedi_assets")
def main() -> None:
    """The STEDI lakehouse. STEDI_LAKE says where it is; unset, it is the embedded one."""


for command in (
    local.local,
    data.sample,
    data.land,
    data.tables,
    data.query,
    runs.materialize,
    runs.catch_up,
    runs.rebuild,
    privacy.consent,
    privacy.forget,
    privacy.audit,
    privacy.erase,
    catalog.catalog,
    alerts.alerts,
    local.spark_conf,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
