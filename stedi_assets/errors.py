"""The project's errors: one line for a person."""


class StediError(RuntimeError):
    """What is wrong and what to do, in one line for a person; it never holds a personal value."""


class SettingsError(StediError):
    """A setting that is missing or has a value that it cannot have."""
