"""`python -m stedi_assets.cli`."""

from stedi_assets.cli.main import main

main()
