"""`stedi alerts`: messages about what breaks."""

import click

from stedi_assets.cli.common import example


@click.group(epilog=example("stedi alerts test"))
def alerts() -> None:
    """Messages about what breaks, to the targets in STEDI_ALERTS."""


@alerts.command("test", epilog=example("stedi alerts test"))
def test_alerts() -> None:
    """Send a test message to every target."""
    from stedi_assets.defs.alerts import send_test

    click.echo(send_test())
