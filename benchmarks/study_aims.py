"""Studies of the default, `forget=laf`: the goals of the forgotten rows, and the alignment with them."""

from __future__ import annotations

from benchmarks.study_kinds import DATA_REMOVAL, TRIAL_DIRICHLET, Study, Sweep, Variant

SPECIAL = "forget.target_rule.project_outliers=false"
SHIFT = ("forget.target_rule.strength=0", "forget.target_rule.negative_weight=0")
PARTS = (
    Variant("all parts"),
    Variant("without the special part", (SPECIAL,)),
    Variant("without the shift of classes", SHIFT),
    Variant("without both", (SPECIAL, *SHIFT)),
    Variant("without the lead", ("forget.warmup_steps=0",)),
    Variant("one round of alignment", ("forget.align_rounds=1",)),
)
STRENGTH = Sweep(
    "forget.target_rule.strength", (0, 1, 2, 4, 6, 8), "strength", "strength of the shift of classes"
)

STUDIES = {
    "assign_targets": Study(
        "LAF without one of its parts",
        "What does each part of LAF add: taking out what odd rows share, the shift of classes, and the "
        "steps by which the forgetting clients lead?",
        PARTS,
    ),
    "aim_removal": Study(
        "LAF without one of its parts, for data removal",
        "The same where no row is odd, but five classes lose 40 % of their rows: what does each part add?",
        PARTS,
        base=DATA_REMOVAL,
    ),
    "aim_tail": Study(
        "Which forgotten rows are odd",
        "How sensitive is LAF to the share of remaining rows above which a forgotten row counts as odd?",
        sweep=Sweep(
            "forget.target_rule.outlier_quantile",
            (0.01, 0.05, 0.2),
            "outlier_quantile",
            "tail: share of remaining rows",
            log=True,
        ),
    ),
    "aim_reach": Study(
        "How much of the special part a row may lose",
        "How sensitive is LAF to the most that an odd row may lose, over what odd rows have on average?",
        sweep=Sweep(
            "forget.target_rule.max_projection",
            (0.5, 1, 1.5, 3),
            "max_projection",
            "max_projection",
            log=True,
        ),
    ),
    "aim_strength": Study(
        "Strength of the shift of classes",
        "How strong should the shift of classes be when five classes lose 40 % of their rows?",
        sweep=STRENGTH,
        base=DATA_REMOVAL,
    ),
    "aim_strength_trial": Study(
        "Strength of the shift of classes, for a backdoored leaver",
        "How strong should the shift of classes be when a client leaves whose backdoored rows spoke for "
        "the trigger's target?",
        sweep=STRENGTH,
    ),
    "align_rounds": Study(
        "Rounds of alignment",
        "Does it matter when alignment stops?",
        sweep=Sweep("forget.align_rounds", (1, 2, 4, 8), "rounds", "rounds of alignment"),
    ),
    "align_steps": Study(
        "Steps of a round of alignment",
        "How many local steps should a round of alignment take?",
        sweep=Sweep("forget.align.steps", (5, 10, 20), "steps", "local steps of a round", log=True),
    ),
    "align_lr": Study(
        "Learning rate of the alignment",
        "How sensitive is LAF to the learning rate of the alignment?",
        sweep=Sweep(
            "forget.align.lr", (3e-4, 1e-3, 3e-3), "rate", "learning rate of the alignment", log=True
        ),
    ),
    "aim_rows": Study(
        "Remaining rows that a client uses",
        "How many of its 2,000 remaining rows must a client use?",
        sweep=Sweep(
            "forget.represent.most_rows",
            (50, 100, 300, 600, 2000),
            "rows",
            "remaining rows of a client (2000: all)",
            log=True,
        ),
    ),
    "aim_server_weight": Study(
        "Weight of the forgetting clients",
        "How much should the forgetting clients weigh when the server joins the two sides?",
        sweep=Sweep("forget.forget_share", (0.2, 0.5, 0.8), "weight", "weight of the forgetting clients"),
    ),
    "aim_latent": Study(
        "Latent dimensions of the VAE",
        "How many latent dimensions Z does the VAE of the remaining rows need?",
        sweep=Sweep("forget.represent.latent", (2, 8, 32), "Z", "latent dimensions Z", log=True),
        method=("forget.represent.density=vae",),
    ),
    "leaver_size": Study(
        "How much is to be forgotten",
        "How does LAF's distance to retraining grow with the share of the rows of classes 5 to 9 that "
        "all clients ask to forget?",
        sweep=Sweep("request.share", (0.1, 0.4, 0.8), "share", "share of rows of classes 5 to 9"),
        base=DATA_REMOVAL,
        own_reference=True,
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
