"""The ablation and sensitivity studies of LAF, as data: what is asked, and which keys are overridden.

First what compares methods, then the default's own studies, then those of the published losses.
"""

from __future__ import annotations

from benchmarks import study_aims, study_losses
from benchmarks.study_kinds import TRIAL_DIRICHLET, Study, Variant

REPEL, PUBLISHED = "forget=laf_tuned_losses", "forget=laf_paper"
VAE, GAUSSIAN = (f"forget.represent.density={kind}" for kind in ("vae", "gaussian"))

DENSITIES = (
    Variant("repel, VAEs", (REPEL, VAE)),
    Variant("repel, Gaussian", (REPEL, GAUSSIAN)),
    Variant("goals, VAE", (VAE,)),
    Variant("goals, Gaussian", (GAUSSIAN,)),
)

METHODS = {
    "published": Study(
        "LAF here and as published",
        "How far are the published losses, tuned and with the published hyperparameters, from LAF with "
        "goals, with all the published rounds and with about as much work as here?",
        (
            Variant("LAF with goals"),
            Variant("published losses, tuned", (REPEL,)),
            Variant("published, 20 rounds of a pass", (PUBLISHED,)),
            Variant(
                "published, 4 rounds of 20 steps",
                (PUBLISHED, "forget.forget_rounds=4", "forget.forget_steps=20"),
            ),
        ),
    ),
    "density": Study(
        "Density of the representations",
        "Are VAEs needed, or do a mean and a covariance of the representations do, for the published "
        "losses (repel) and for goals?",
        DENSITIES,
    ),
    "density_skew": Study(
        "Density of the representations, under label skew",
        "The same with a Dirichlet partition: a VAE is averaged over clients whose rows differ, a mean and "
        "a covariance are exact.",
        DENSITIES,
        base=TRIAL_DIRICHLET,
    ),
}

STUDIES: dict[str, Study] = METHODS | study_aims.STUDIES | study_losses.STUDIES
