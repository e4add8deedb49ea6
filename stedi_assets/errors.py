"""The project's errors: one line for a person."""


class StediError(RuntimeError):
    """What is wrong and what to do, in one line for a person; it never holds a personal value."""


class RunInProgressError(StediError):
    """A run is in progress that would write at the same time as a command."""

    def __init__(self, run: str, command: str) -> None:
        super().__init__(
            f"Run {run} is in progress: wait for its end, or terminate it, then `{command}` again."
            " If its process died, it counts no more after 30 minutes without an event;"
            f" `dagster run delete {run}` is sooner."
        )


class SettingsError(StediError):
    """A setting that is missing or has a value that it cannot have."""
