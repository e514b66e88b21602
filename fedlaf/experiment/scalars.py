"""Keys of the configuration that belong to no class of their own."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from fedlaf.core.errors import require, require_count, require_number
from fedlaf.evaluation.membership import PROTOCOLS


def check_scalars(config: DictConfig) -> None:
    """Raise InvalidValue for a number or a word outside of what it may be."""
    require_count("seed", config.seed, at_least=0)
    require_count("clients", config.clients)
    require_number("timeout", config.timeout, above=0)
    require_count("checkpoints.every", config.checkpoints.every, at_least=0)
    require_count("evaluation.curve_rows", config.evaluation.curve_rows, at_least=0)
    require_count("evaluation.reference_seeds", config.evaluation.reference_seeds, at_least=0)
    require_count("evaluation.resurfacing_rounds", config.evaluation.resurfacing_rounds, at_least=0)
    when = config.evaluation.reference
    require(when in ("each", "last"), "evaluation.reference", "each or last", when)
    asr = config.evaluation.asr
    require(asr is None or asr in PROTOCOLS, "evaluation.asr", "split or paper or null", asr)
    require_count("evaluation.most_rows", config.evaluation.most_rows)
    folder = config.resume
    found = folder is None or Path(folder).is_dir()
    require(found, "resume", "the folder of an earlier run", folder)
