"""Methods of every kind of client step, as brief as they get."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs
from fedlaf.objectives import ClosedForm, Fit, Forget, Represent
from fedlaf.strategies.bad_teacher import BadTeacher
from fedlaf.strategies.boundary import Boundary
from fedlaf.strategies.fedosd import FedOsd
from fedlaf.strategies.fine_tune import FineTune
from fedlaf.strategies.fused import Fused
from fedlaf.strategies.gradient_ascent import GradientAscent
from fedlaf.strategies.head_distill import HeadDistillation
from fedlaf.strategies.jit import JustInTime
from fedlaf.strategies.laf import Laf
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_counts import LafCounts
from fedlaf.strategies.laf_hybrid import LafHybrid
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.laf_repair import LafRepair, PublishedLafRepair
from fedlaf.strategies.laf_vae import LafVae
from fedlaf.strategies.retrain import Retrain
from fedlaf.strategies.salun import SalUn
from fedlaf.strategies.scrub import Scrub
from fedlaf.strategies.ssd import LossFreeSsd, Ssd
from fedlaf.strategies.unroll import SingleGradient
from fedlaf.strategies.virtual_teacher import LabelFreeVirtualTeaching, VirtualTeaching
from fedlaf.strategies.weight_negation import WeightNegation
from support.federations import initial_weights, small_spec

SPEC = small_spec(3, rows=60)
BRIEF = Represent(latent=2, most_rows=10)
METHODS: dict[str, Any] = {
    "laf": Laf(ClosedForm(min_rows=1)),
    "fine_tune": FineTune(rounds=1, fit=Fit(lr=1e-3)),
    "laf_adam": LafAdam(represent=BRIEF, represent_rounds=1, warmup_steps=1, align_rounds=1),
    "laf_published": PublishedLaf(
        represent=replace(BRIEF, own_epochs=1), represent_rounds=1, forget=Forget(), forget_rounds=1,
        forget_steps=1, recover_rounds=1, closing_rounds=0,
    ),
    "fedosd": FedOsd(gradient_rounds=1, recover_rounds=1),
    "scrub": Scrub(push_rounds=1, hold_rounds=2),
    "bad_teacher": BadTeacher(rounds=1),
    "boundary": Boundary(),
    "unroll": SingleGradient(),
    "ssd": Ssd(),
    "lfssd": LossFreeSsd(),
    "salun": SalUn(rounds=1),
    "virtual_teacher": VirtualTeaching(),
    "head_distill": HeadDistillation(rounds=1),
    "jit": JustInTime(),
    "fused": Fused(rounds=1),
}  # fmt: skip

MORE: dict[str, Any] = {
    "laf_counts": LafCounts(ClosedForm(min_rows=1)),
    "laf_repair": LafRepair(ClosedForm(min_rows=1)),
    "laf_vae": LafVae(ClosedForm(min_rows=1), represent=replace(BRIEF, most_rows=None), represent_rounds=1),
    "laf_hybrid": LafHybrid(ClosedForm(min_rows=1), align_rounds=1),
    "laf_published_repair": PublishedLafRepair(
        represent=BRIEF, represent_rounds=1, forget=Forget(), forget_rounds=1, forget_steps=1,
        recover_rounds=1, closing_rounds=0,
    ),
    "virtual_teacher_label_free": LabelFreeVirtualTeaching(rounds=1),
    "not": WeightNegation(rounds=1, fit=Fit(lr=1e-3)),
    "gradient_ascent": GradientAscent(recover_rounds=1),
    "retrain": Retrain(rounds=2, fit=Fit(lr=1e-2)),
}  # fmt: skip
"""Methods of the same kinds of steps, put together otherwise."""


def inputs() -> MethodInputs:
    """What any of the methods needs beside the model."""

    def fresh(seed: int) -> nn.Module:
        dataset = build(SPEC.federation).dataset
        return SPEC.model.build(dataset.shape, dataset.num_classes, seed)

    return MethodInputs(start=initial_weights(SPEC), fresh=fresh)
