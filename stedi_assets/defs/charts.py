"""Pictures of what the tables hold, as markdown that Dagster's UI shows.

Plain numbers in, markdown with a PNG in it out: below 100 kB, without a background and in colours
that can be read on a light and on a dark page. No picture identifies a person: no names, no
pseudonyms, no time of day.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_DATES = 60
_TEXT, _BLUE, _ORANGE, _GREEN, _PURPLE = "#7c828d", "#4f8cff", "#e8833a", "#3aa675", "#a47cf0"
_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
        ),
        _TEXT,
    ),
}


def records_by_date(records: Mapping[date, int], malformed: Mapping[date, int]) -> str:
    """Records that landed, and the malformed among them, by ingest date."""
    with _style():
        figure = _figure(7, 2.6)
        days = _newest(records)
        axes = figure.subplots()
        good = [records[day] - malformed.get(day, 0) for day in days]
        bad = [malformed.get(day, 0) for day in days]
        _bars(axes, days, good, _BLUE, label="well-formed")
        _bars(axes, days, bad, _ORANGE, good, label=f"malformed ({sum(bad):,})")
        axes.set_title("Records by ingest date", loc="left")
        axes.legend(loc="upper left", ncols=2, bbox_to_anchor=(0.4, 1.16))
        return _markdown(figure, "Records and malformed records by ingest date")


def funnel(stages: Mapping[str, int]) -> str:
    """How many customers are left after each stage, with the share of the first one."""
    with _style():
        figure = _figure(7, 0.5 + 0.45 * len(stages))
        axes = figure.subplots()
        names, counts = list(stages), list(stages.values())
        axes.barh(names, counts, color=[_BLUE, _PURPLE, _GREEN, _ORANGE][: len(stages)], height=0.7)
        axes.invert_yaxis()
        axes.spines[["bottom", "left"]].set_visible(False)
        axes.tick_params(length=0, bottom=False, labelbottom=False)
        axes.set_xlim(0, max([*counts, 1]) * 1.2)
        for at, count in enumerate(counts):
            share = f" ({count / counts[0]:.0%})" if counts[0] and at else ""
            axes.text(count, at, f"  {count:,}{share}", va="center", color=_TEXT)
        axes.set_title("Customers", loc="left")
        return _markdown(figure, "Customers left after each stage")


def training_pairs(
    seconds: Sequence[float],
    distances: Sequence[float],
    accelerations: Mapping[str, Sequence[float]],
    pairs: Mapping[date, int],
) -> str:
    """One subject's readings against time, and pairs by ingest date.

    seconds: since the subject's first reading shown; distances: cm; accelerations: by axis, as the
    phone reports them.
    """
    with _style():
        figure = _figure(7, 4.4)
        grid = figure.subplot_mosaic([["distance"], ["acceleration"], ["pairs"]])
        distance, acceleration = grid["distance"], grid["acceleration"]
        distance.plot(seconds, distances, ".-", color=_BLUE, linewidth=0.8, markersize=4)
        distance.set_title("One subject: distance from the object, cm", loc="left")
        distance.tick_params(labelbottom=False)
        for (axis, values), color in zip(
            accelerations.items(), (_ORANGE, _GREEN, _PURPLE), strict=False
        ):
            acceleration.plot(seconds, values, ".", color=color, markersize=3, label=axis)
        acceleration.set_title("The same subject: acceleration", loc="left")
        acceleration.set_xlabel("seconds since the first reading shown")
        acceleration.legend(loc="upper right", ncols=3, bbox_to_anchor=(1, 1.35))
        acceleration.sharex(distance)
        days = _newest(pairs)
        _bars(grid["pairs"], days, [pairs[day] for day in days], _BLUE)
        grid["pairs"].set_title("Pairs by ingest date", loc="left")
        return _markdown(figure, "A subject's readings against time, and pairs by ingest date")


def _newest(values: Mapping[date, int]) -> list[date]:
    return sorted(values)[-MOST_DATES:]


def _style() -> Any:
    import matplotlib as mpl

    style: Any = _STYLE
    return mpl.rc_context(style)


def _figure(width: float, height: float) -> "Figure":
    """A figure of inches, without pyplot: it keeps no figure and asks for no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110)
    # Margins in inches. A layout engine measures every text first, which takes half of the time.
    figure.subplots_adjust(1 / width, 0.3 / height, 1 - 0.1 / width, 1 - 0.35 / height, hspace=0.8)
    return figure


def _bars(
    axes: Any,
    days: Sequence[date],
    counts: Sequence[int],
    color: str,
    bottoms: Sequence[int] = (),
    label: str | None = None,
) -> None:
    """A bar a date, on top of others where `bottoms` is given.

    One outline with gaps of no height, since `Axes.bar` takes longer for 60 dates than the rest.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    at = range(len(days))
    feet = bottoms or [0] * len(counts)
    edges = [edge for n in at for edge in (n - 0.4, n + 0.4)]
    tops = [top for foot, count in zip(feet, counts, strict=True) for top in (foot + count, 0)]
    under = [height for foot in feet for height in (foot, 0)]
    outline = (tops[:-1], edges, under[:-1]) if days else ([0], [0, 0], [0])
    axes.stairs(*outline[:2], baseline=outline[2], fill=True, color=color, label=label)
    step = max(1, len(days) // 8)
    axes.set_xticks(list(at)[::step], [f"{day:%d %b}" for day in days[::step]])
    axes.set_xlim(-0.6, max(len(days), 6) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _markdown(figure: "Figure", alternative: str) -> str:
    """The figure as markdown; alternative: what it shows, for who cannot see it."""
    png = io.BytesIO()
    figure.savefig(png, format="png", transparent=True)
    text = base64.b64encode(png.getvalue()).decode()
    return f"![{alternative}](data:image/png;base64,{text})"
