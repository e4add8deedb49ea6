"""The `stedi` command: parses arguments, prints, and holds no workflow."""
