"""The timeline of a stream: requests as bars from issued to forgotten, the model's quality below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlaf.report.plot import COLOURS, save

Values = Mapping[str, Any]

WAIT, SERVICE = "#f0b429", COLOURS["unlearned"]
MOST_ROWS = 60
"""Requests that have a bar of their own height; more are drawn thinner."""


def plot_timeline(stream: Values, path: Path) -> bool:
    """Write a PNG; nothing, and False, where no request came."""
    requests = stream.get("requests") or []
    if not requests:
        return False
    from matplotlib.figure import Figure

    height = 0.24 * min(len(requests), MOST_ROWS)
    figure = Figure(figsize=(9.6, 4.2 + height), layout="constrained")
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=[0.8 + height, 0.8, 1.8])
    _bars(upper, requests, stream["elapsed"])
    _backlog(middle, stream["backlog"])
    _quality(lower, stream)
    for axis in (upper, middle, lower):
        for segment in stream["segments"]:
            if segment["kind"] == "service":
                at = segment["elapsed"]
                axis.axvspan(at, at + segment["rounds"], color="0.93", linewidth=0, zorder=0)
    lower.set_xlabel("elapsed rounds, of training and (shaded: training pauses) of services")
    save(figure, path)
    return True


def _bars(axis: Any, requests: Sequence[Values], end: int) -> None:
    for place, found in enumerate(requests):
        _bar(axis, place, found, end)
    axis.set_ylim(len(requests) - 0.4, -0.6)
    few = len(requests) <= MOST_ROWS
    axis.set_yticks(
        range(len(requests)) if few else [], [_name(r) for r in requests] if few else [], fontsize=8
    )
    axis.set_title("requests", fontsize=10, loc="left")
    handles = [_patch(WAIT, "waits"), _patch(SERVICE, "is served"), _patch("0.6", "not served")]
    if any(found["request"]["deadline"] for found in requests):
        (mark,) = axis.plot([], [], "D", color="0.3", markersize=4, label="deadline")
        handles.append(mark)
    axis.legend(handles=handles, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)


def _bar(axis: Any, place: int, found: Values, end: int) -> None:
    began, ended = found["issued"], found["completed"]
    started = found["started"] if found["started"] is not None else ended
    served = found["status"] == "completed" and found["forgotten"]
    axis.barh(place, started - began, left=began, color=WAIT if served else "0.6", height=0.7)
    if served:
        axis.barh(place, ended - started, left=started, color=SERVICE, height=0.7)
        axis.plot(ended, place, marker="|", color="black", markersize=8)
    else:
        axis.plot(ended, place, marker="x", color="black", markersize=6)
    due = found["request"]["deadline"]
    if due is not None:
        at = began + due - found["request"]["issued"]
        if at <= end:
            colour = "black" if found["missed_deadline"] else "0.3"
            axis.plot(at, place, marker="D", color=colour, markeredgecolor="white", markersize=5)


def _backlog(axis: Any, backlog: Sequence[int]) -> None:
    axis.step(range(len(backlog)), backlog, where="post", color="0.3")
    axis.set_ylim(0, max(1, *backlog) * 1.15)
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_title("requests that are not served yet", fontsize=10, loc="left")
    axis.grid(alpha=0.3)


def _quality(axis: Any, stream: Values) -> None:
    points = stream["quality"]
    x, y = [p["elapsed"] for p in points], [p["accuracy"] for p in points]
    axis.plot(x, y, color="0.45", marker=".", drawstyle="steps-post", label="published model, some test rows")
    prefixes = stream["prefixes"]
    for model, marker in (("unlearned", "o"), ("retrained", "^")):
        at = [p["elapsed"] for p in prefixes]
        axis.plot(
            at, [p[model] for p in prefixes], marker, color=COLOURS[model], label=f"{model}, all test rows"
        )
    axis.set_title("test accuracy (%)", fontsize=10, loc="left")
    axis.legend(fontsize=8, loc="lower right")
    axis.grid(alpha=0.3)


def _name(found: Values) -> str:
    client = found["request"]["client"]
    return f"{found['request']['id']} ({'all' if client is None else client})"


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)
