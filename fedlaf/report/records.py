"""A report as flat rows, which pandas and polars read as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedlaf.evaluation import Verdict
from fedlaf.report.results import COSTS, MODELS, RequestResult, or_none

Record = dict[str, str | int | float | None]


def records(seed: int, method: str, results: Sequence[RequestResult]) -> list[Record]:
    """One row a request, model and measure or cost, all with the same keys; None for NaN.

    `kind` is measure or cost. Measures of unlearned models have their `distance` to the retrained model, the
    `limit` (the largest distance between retrainings) and the `verdict`.
    """
    of_run: Record = {"seed": seed, "method": method}
    return [of_run | record for served in results for record in _records(served)]


def _records(served: RequestResult) -> Iterator[Record]:
    for model in (m for m in MODELS if m in served.models):
        verdict = (model == "unlearned" and served.verdict) or Verdict((), "")
        of_model: Record = {"request": served.name, "round": served.round, "model": model}
        for name, measure in served.catalogue.items():
            if (value := served.measure(name, model)) is not None:
                known: Record = {
                    "kind": "measure",
                    "name": name,
                    "unit": measure.unit,
                    "value": or_none(value),
                }
                distance, limit = or_none(verdict.distances.get(name)), or_none(verdict.limits.get(name))
                word = verdict.words.get(name)
                yield of_model | known | {"distance": distance, "limit": limit, "verdict": word and str(word)}
        for name in COSTS if model in served.costs else ():
            cost: Record = {"kind": "cost", "name": name, "unit": "", "value": served.cost(name, model)}
            yield of_model | cost | {"distance": None, "limit": None, "verdict": None}
