"""Studies of the published losses, tuned (`forget=laf_tuned_losses`); its defaults are their default rows."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.study_kinds import Study, Sweep, Variant, each


def _decoder(kind: str, standardise: str, error: str = "mean") -> tuple[str, ...]:
    values = {"decoder": kind, "standardise": standardise, "error": error}
    return tuple(f"forget.represent.{key}={value}" for key, value in values.items())


_STUDIES = {
    "losses": Study(
        "The published losses without one of their parts",
        "What does each part add: the unlearning loss L_UE, the alignment L_RA in the forget "
        "rounds, and the recovery after them?",
        (
            Variant("all parts"),
            Variant("without L_UE", ("forget.forget.lr_unlearning=0",)),
            Variant("without L_RA in the forget rounds", ("forget.forget.lr_alignment=0",)),
            Variant("without recovery", ("forget.recover_rounds=0",)),
        ),
    ),
    "h_rows": Study(
        "Rows that h learns",
        "Is h better trained on the remaining rows D_r alone, or on all rows D as published?",
        each("forget.represent.rows", retain="h on remaining rows", all="h on all rows"),
    ),
    "updates": Study(
        "Order of the two losses",
        "Do L_UE and L_RA alternate, is their sum taken, or do all rounds of the one come first?",
        each("forget.forget.updates", alternate="alternating", joint="jointly", two_stage="in two stages"),
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
        each("forget.forget.weighting", oddness="by oddness", none="all the same"),
    ),
    "temperature": Study(
        "Temperature of the alignment",
        "How sensitive is forgetting to the temperature tau of L_RA?",
        sweep=Sweep("forget.forget.temperature", (0.5, 1, 5, 20), "tau", "temperature tau", log=True),
    ),
    "lr_unlearning": Study(
        "Learning rate of L_UE",
        "How sensitive is forgetting to the learning rate of the unlearning loss?",
        sweep=Sweep(
            "forget.forget.lr_unlearning",
            (1e-5, 1e-4, 1e-3),
            "rate",
            "learning rate of L_UE",
            log=True,
        ),
    ),
    "lr_alignment": Study(
        "Learning rate of L_RA",
        "How sensitive is forgetting to the learning rate of the alignment in the forget rounds?",
        sweep=Sweep(
            "forget.forget.lr_alignment", (3e-4, 1e-3, 3e-3), "rate", "learning rate of L_RA", log=True
        ),
    ),
    "latent": Study(
        "Latent dimensions of the VAEs, published losses",
        "How many latent dimensions Z do the VAEs need?",
        sweep=Sweep("forget.represent.latent", (2, 8, 32), "Z", "latent dimensions Z", log=True),
    ),
    "forget_rounds": Study(
        "Forget rounds",
        "How many forget rounds are right, the recovery after them being the same?",
        sweep=Sweep("forget.forget_rounds", (1, 2, 3), "rounds", "forget rounds"),
    ),
    "forget_steps": Study(
        "Steps of a forget round",
        "How many local steps should a forget round take?",
        sweep=Sweep("forget.forget_steps", (5, 10, 20), "steps", "local steps of a forget round", log=True),
    ),
    "recover_rounds": Study(
        "Recovery rounds",
        "How many recovery rounds restore the model before it drifts back to the original?",
        sweep=Sweep("forget.recover_rounds", (0, 1, 2, 4), "rounds", "recovery rounds"),
    ),
    "server_weight": Study(
        "Weight of the forgetting clients, published losses",
        "How much should the forgetting clients weigh when the server joins the two sides?",
        sweep=Sweep(
            "forget.forget_share",
            (0.3, 0.55, 0.8),
            "weight",
            "weight of the forgetting clients",
        ),
    ),
}

STUDIES = {name: replace(study, method=("forget=laf_tuned_losses",)) for name, study in _STUDIES.items()}
