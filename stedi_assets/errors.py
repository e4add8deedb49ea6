"""The project's errors: one line for a person, and addresses as such a line may show them."""

import re


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


# An `@`, also where it is escaped or another form of the character.
_AT = re.compile("%(?:25)*40|[@＠﹫]")
# A `:` before what is no port; of several hosts each may have one.
_NO_PORT = re.compile(r":(?!\d*(?:,|$))")
_IPV6 = re.compile(r"\[[^\]]*\]")


def shown_address(address: str) -> str:
    """An address without user, password and parameters (a token), which may be secret."""
    scheme, mark, rest = address.partition("://") if "://" in address else ("", "", address)
    rest = _AT.sub("@", rest)
    shown = re.split(r"/?[;?#]", rest, maxsplit=1)[0]
    if "@" in rest:
        # One in the parameters may be a password's, too: then nothing is shown.
        shown = f"…@{shown.rpartition('@')[2]}" if "@" in shown else "…"
    elif _NO_PORT.search(_IPV6.sub("", shown.partition("/")[0])):
        shown = "…"  # a user and a password without their `@`
    return f"{scheme}{mark}{shown}"
