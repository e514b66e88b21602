"""The tables of a stream of requests, as rows of text, from the plain values of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedlaf.evaluation.stream_costs import COMPARED
from fedlaf.report.tables import Rows, markdown

Values = Mapping[str, Any]

COUNTS = {
    "issued": "issued", "completed": "served", "stopped": "stopped", "failed": "failed",
    "refused": "refused", "cancelled": "cancelled", "not_forgotten": "of these without forgetting anything",
    "missed_deadline": "missed their deadline",
    "by_fallback": "served by the fallback", "served_together": "served with others",
}  # fmt: skip

TIMES = {
    "wait": ("wait until its service (rounds)", 1, 1.0),
    "service": ("service (rounds)", 1, 1.0),
    "time": ("time to forget: wait and service (rounds)", 1, 1.0),
    "exposure": ("exposure: rounds in which a model with its data was published", 1, 1.0),
    "check_seconds": ("check of the result (seconds)", 2, 1.0),
    "client_seconds": ("client seconds of its service", 2, 1.0),
    "bytes": ("MB of its service, down and up", 2, 1e6),
}
"""Title, digits and unit of each time."""

WAYS = {
    "each": "retraining after each request",
    "window": "retraining after each batch",
    "once": "retraining once, at the end",
}


def counts_line(stream: Values) -> str:
    """What became of the requests, in a line."""
    found = stream["counts"]
    parts = [f"{found[name]} {title}" for name, title in COUNTS.items() if found[name] or name == "issued"]
    return f"{', '.join(parts)}; {stream['rounds']} rounds of training, {stream['elapsed']} with services."


def time_rows(stream: Values) -> Rows:
    """A header, then the spread of each time over requests."""
    rows = [["", "median", "95th percentile", "largest"]]
    for name, (title, digits, unit) in TIMES.items():
        spread = stream["times"].get(name)
        if spread:
            rows.append([title, *(_number(spread[key] / unit, digits) for key in ("median", "p95", "max"))])
    return rows


def request_rows(stream: Values) -> Rows:
    """A header, then a row a request."""
    rows = [["request", "of", "issued", "wait", "service", "time", "exposure", "outcome", "by", "note"]]
    for found in stream["requests"]:
        asked = found["request"]
        numbers = [_number(found[name], 0) for name in ("wait", "service", "time", "exposure")]
        by = f"{found['method']} (fallback)" if found["fallback"] else found["method"]
        rows.append(
            [asked["id"], _who(asked), str(found["issued_round"]), *numbers, _ended(found), by, _note(found)]
        )
    return rows


def cost_rows(stream: Values) -> Rows:
    """A header, then each cost of all services, beside three ways of retraining."""
    rows = [["cost of all services", "method", *WAYS.values(), "dearer than once"]]
    for name, title in COMPARED.items():
        costs = stream["costs"][name]
        if not costs["method"]:
            continue
        unit, digits = (1e6, 1) if name == "bytes" else (1.0, 1 if name == "client_seconds" else 0)
        label = f"{title} (MB)" if name == "bytes" else title
        values = [_number(costs[way][-1] / unit, digits) for way in ("method", *WAYS)]
        rows.append([label, *values, _break_even(stream["break_even"][name]["once"])])
    return rows


def prefix_rows(stream: Values) -> Rows:
    """A header, then a row for each prefix: the model beside the one that was retrained."""
    header = ["after", "round", "test accuracy", "retrained", "mean distance", "worst client", "deviation"]
    rows = [[*header, "clients below -2"]]
    for found in stream["prefixes"]:
        fair = found["fairness"]
        last = found["result"] == "end"
        name = f"the end ({found['requests']})" if last else f"{found['requests']} served"
        values = [_number(found[key], 1) for key in ("unlearned", "retrained", "gap")]
        values += [f"{fair['worst']:+.1f}" if fair else "", _number(fair.get("deviation"), 1)]
        values += [f"{fair['below']:.0f} %" if fair else ""]
        rows.append([name, str(found["round"]), *values])
    return rows


def persistence_rows(stream: Values) -> Rows:
    """A header, then a row a request: accuracy on its rows just after, and at the end."""
    rows = [["rows of", "just after", "at the end", "retrained to the end", "resurfaced (points)"]]
    for name, seen in stream["sightings"].items():
        last = seen[-1]
        values = [seen[0]["unlearned"], last["unlearned"], last["retrained"], stream["resurfaced"].get(name)]
        rows.append([name, *(_number(value, 1) for value in values)])
    return rows


def asked_rows(stream: Values) -> Rows:
    """A header, then a row a client: passes over its rows that training and services asked of it."""
    kinds = [kind for kind in ("training", "service") if stream["passes"].get(kind)]
    clients = sorted({int(k) for kind in kinds for k in stream["passes"][kind]})
    rows = [["client", *(f"passes in {kind}" for kind in kinds)]]
    for client in clients:
        values = [stream["passes"][kind].get(str(client), 0.0) for kind in kinds]
        rows.append([str(client), *(_number(value, 0) for value in values)])
    return rows


def section(stream: Values, *, picture: bool) -> list[str]:
    """The report's part on the stream, in Markdown."""
    read = (
        "Times are in elapsed rounds: those of training and those of services. Retraining's costs are those "
        "of this run's own rounds, scaled to the rows that remain. Resurfaced are points by which a model is "
        "right more often on forgotten rows at the end than just after, and than the retrained model."
    )
    parts = ["## The stream of requests", counts_line(stream), read]
    parts += ["![requests and model quality over elapsed rounds](timeline.png)"] if picture else []
    tables = (time_rows, request_rows, cost_rows, prefix_rows, persistence_rows, asked_rows)
    parts += [markdown(rows) for table in tables if len(rows := table(stream)) > 1]
    return parts + returned(stream)


def returned(stream: Values) -> list[str]:
    """A line for each client that came back as a new identity."""
    lines = stream["identities"].items()
    return [f"Client {new} is client {old}, come back: {stream['consents'][new]}." for new, old in lines]


def _break_even(number: int | None) -> str:
    return "never" if number is None else f"from request {number} on"


def _ended(found: Values) -> str:
    if found["status"] != "completed":
        return str(found["status"])
    return "served" if found["forgotten"] else "nothing forgotten"


def _who(asked: Values) -> str:
    who = "all clients" if asked["client"] is None else f"client {asked['client']}"
    what = {
        "client": "", "classes": f", classes {', '.join(map(str, asked['classes']))}",
        "rows": f", {len(asked['rows'])} rows", "wrong_labels": ", wrong labels",
    }  # fmt: skip
    return who + what[asked["scope"]]


def _note(found: Values) -> str:
    asked = found["request"]
    notes = [] if asked["leaver"] == "helps" else [asked["leaver"]]
    notes += (
        [f"offline in rounds {asked['offline'][0]} to {asked['offline'][1] - 1}"] if asked["offline"] else []
    )
    notes += ["missed its deadline"] if found["missed_deadline"] else []
    notes += [f"with {', '.join(found['together'])}"] if found["together"] else []
    notes += [found["reason"]] if found["reason"] and found["status"] != "completed" else []
    return "; ".join(notes).replace("|", "\\|")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
