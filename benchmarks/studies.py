"""The ablation and sensitivity studies of LAF, as data: what is asked, and which keys are overridden.

A default is never typed here: a variant that composes to the same configuration as none at all is it.
"""

from __future__ import annotations

from dataclasses import dataclass

TRIAL = ("experiment=trial", "engine=inline", "evaluation.curve_rows=0")
TRIAL_DIRICHLET = ("experiment=trial_dirichlet", *TRIAL[1:])
DATA_REMOVAL = ("experiment=paper/data_removal_federated", *TRIAL[1:])

# An experiment is composed after the method, so what it says of forget.* has to be taken back here.
PUBLISHED = ("forget=laf_paper", "forget.closing_rounds=0", "forget.forgetting_share=0.5")


@dataclass(frozen=True)
class Variant:
    """One row of a study; `x` is its place on the axis of a sweep."""

    label: str
    overrides: tuple[str, ...] = ()
    x: float | None = None


@dataclass(frozen=True)
class Sweep:
    """Values of one key; `symbol` names it in the table, `axis` below the plot."""

    key: str
    values: tuple[float, ...]
    symbol: str
    axis: str
    log: bool = False


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it: named variants, or a sweep over one key.

    `base` is what original and retrained model are trained from, `method` what all variants add to
    it. `own_reference` says that the request differs by variant, and with it the retrained model.
    """

    title: str
    asks: str
    variants: tuple[Variant, ...] = ()
    sweep: Sweep | None = None
    base: tuple[str, ...] = TRIAL
    method: tuple[str, ...] = ()
    own_reference: bool = False


def _decoder(kind: str, standardise: str, error: str = "mean") -> tuple[str, ...]:
    values = {"decoder": kind, "standardise": standardise, "error": error}
    return tuple(f"forget.represent.{key}={value}" for key, value in values.items())


def _each(key: str, **labels: str) -> tuple[Variant, ...]:
    return tuple(Variant(label, (f"{key}={value}",)) for value, label in labels.items())


STUDIES = {
    "losses": Study(
        "LAF without one of its parts",
        "What does each part of LAF add: the unlearning loss L_UE, the alignment L_RA in the forget "
        "rounds, and the recovery after them?",
        (
            Variant("all parts"),
            Variant("without L_UE", ("forget.forget.lr_unlearning=0",)),
            Variant("without L_RA in the forget rounds", ("forget.forget.lr_alignment=0",)),
            Variant("without recovery", ("forget.recover_rounds=0", "forget.closing_rounds=0")),
        ),
    ),
    "h_rows": Study(
        "Rows that h learns",
        "Is h better trained on the remaining rows D_r alone, or on all rows D as published?",
        _each("forget.represent.rows", retained="h on remaining rows", all="h on all rows"),
    ),
    "density": Study(
        "Density of the representations",
        "Are the VAEs needed, or do a mean and a covariance of the representations do?",
        _each("forget.represent.density", vae="VAEs", gaussian="mean and covariance"),
    ),
    "updates": Study(
        "Order of the two losses",
        "Do L_UE and L_RA alternate, is their sum taken, or do all rounds of the one come first?",
        _each("forget.forget.updates", alternate="alternating", joint="jointly", two_stage="in two stages"),
    ),
    "decoder": Study(
        "Decoder of the VAEs",
        "What do a linear decoder and standardised representations change against the published "
        "sigmoid on raw ones?",
        (
            Variant("linear, standardised", _decoder("linear", "true")),
            Variant("sigmoid, standardised", _decoder("sigmoid", "true")),
            Variant("sigmoid, raw (published)", _decoder("sigmoid", "false", "sum")),
            Variant("linear, raw", _decoder("linear", "false")),
        ),
    ),
    "weighting": Study(
        "Weights of the forgotten rows",
        "Does it help to weigh a forgotten row by how odd h finds it?",
        _each("forget.forget.weighting", oddness="by oddness", none="all the same"),
    ),
    "temperature": Study(
        "Temperature of the alignment",
        "How sensitive is LAF to the temperature tau of L_RA?",
        sweep=Sweep("forget.forget.temperature", (0.5, 1, 2, 5, 20), "tau", "temperature tau", log=True),
    ),
    "lr_unlearning": Study(
        "Learning rate of L_UE",
        "How sensitive is LAF to the learning rate of the unlearning loss?",
        sweep=Sweep(
            "forget.forget.lr_unlearning",
            (1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
            "rate",
            "learning rate of L_UE",
            log=True,
        ),
    ),
    "lr_alignment": Study(
        "Learning rate of L_RA",
        "How sensitive is LAF to the learning rate of the alignment in the forget rounds?",
        sweep=Sweep(
            "forget.forget.lr_alignment", (1e-4, 3e-4, 1e-3, 3e-3), "rate", "learning rate of L_RA", log=True
        ),
    ),
    "latent": Study(
        "Latent dimensions of the VAEs",
        "How many latent dimensions Z do the VAEs need?",
        sweep=Sweep("forget.represent.latent", (2, 4, 8, 16, 32), "Z", "latent dimensions Z", log=True),
    ),
    "forget_rounds": Study(
        "Forget rounds",
        "How many forget rounds are right, the recovery after them being the same?",
        sweep=Sweep("forget.forget_rounds", (1, 2, 3, 4), "rounds", "forget rounds"),
    ),
    "forget_steps": Study(
        "Steps of a forget round",
        "How many local steps should a forget round take?",
        sweep=Sweep(
            "forget.forget_steps", (5, 10, 20, 40), "steps", "local steps of a forget round", log=True
        ),
    ),
    "recover_rounds": Study(
        "Recovery rounds",
        "How many recovery rounds restore the model before it drifts back to the original?",
        sweep=Sweep("forget.recover_rounds", (0, 1, 2, 3, 4), "rounds", "recovery rounds"),
    ),
    "server_weight": Study(
        "Weight of the forgetting clients",
        "How much should the forgetting clients weigh when the server joins the two sides?",
        sweep=Sweep(
            "forget.forgetting_share",
            (0.2, 0.3, 0.4, 0.5, 0.55, 0.7),
            "weight",
            "weight of the forgetting clients",
        ),
    ),
    "leaver_size": Study(
        "How much is to be forgotten",
        "How does LAF's distance to retraining grow with the share of the rows of classes 5 to 9 that "
        "all clients ask to forget?",
        sweep=Sweep("request.share", (0.1, 0.2, 0.4, 0.8), "share", "share of rows of classes 5 to 9"),
        base=DATA_REMOVAL,
        own_reference=True,
    ),
    "published": Study(
        "LAF here and as published",
        "How far are the published hyperparameters from those of this project, with all their rounds "
        "and with as much work as here?",
        (
            Variant("LAF"),
            Variant("published, 20 rounds of a pass", PUBLISHED),
            Variant(
                "published, 4 rounds of 20 steps",
                (*PUBLISHED, "forget.forget_rounds=4", "forget.forget_steps=20"),
            ),
        ),
    ),
    "repair": Study(
        "Quality over the share of labels (LAF+R)",
        "What does supervised repair add after LAF, over the share of remaining rows that is labelled?",
        sweep=Sweep(
            "forget.repair.labels", (0, 0.05, 0.25, 0.5, 1), "labels", "labelled share of the remaining rows"
        ),
        base=TRIAL_DIRICHLET,
        method=("forget=laf_repair",),
    ),
}
