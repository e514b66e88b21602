"""A method's hyperparameters, bound to the losses they belong to: frozen values that conf/ makes,
the wire carries as flat scalars, and clients call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlaf.core.errors import require, require_count, require_number, require_one_of
from fedlaf.core.settings import internal, require_effect
from fedlaf.models import Density
from fedlaf.objectives import laf_losses

DECODERS = ("sigmoid", "linear")
REDUCTIONS = ("sum", "mean")
DENSITIES = ("vae", "gaussian")
UPDATES = ("alternate", "joint", "two_stage")


@dataclass(frozen=True)
class Represent:
    """How the VAEs `h` (averaged over clients) and `h_f` (each forgetting client's own) are trained.

    `epochs` is per round for h, `own_epochs` in all for h_f. `standardise` shifts and scales
    representations by mean and deviation over the clients' rows that h learns: `rows` says `all`
    or `retain`. `most_rows` is how many of its remaining rows, drawn once, a client uses for the
    request (None: all). `error` reduces the squared error over D by `sum` (published) or `mean`;
    `share_h_f` averages h_f over the forgetting clients, by way of the server. `density`
    `gaussian` puts a mean and a covariance in the place of each VAE: exact from one round of moments.
    """

    latent: int = 8
    decoder: str = "linear"
    standardise: bool = True
    error: str = "mean"
    rows: str = "retain"
    epochs: int = 1
    own_epochs: int = 15
    lr: float = 2e-3
    kl_weight: float = 0.025
    batch_size: int = 32
    share_h_f: bool = False
    most_rows: int | None = 300
    density: str = "vae"

    def __post_init__(self) -> None:
        require_one_of("decoder", self.decoder, DECODERS)
        require_one_of("error", self.error, REDUCTIONS)
        require_one_of("density", self.density, DENSITIES)
        require_one_of("rows", self.rows, ("all", "retain"))
        for name in ("latent", "epochs", "own_epochs", "batch_size"):
            require_count(name, getattr(self, name))
        require_number("lr", self.lr, above=0)
        require_number("kl_weight", self.kl_weight, at_least=0)
        if self.most_rows is not None:
            require_count("most_rows", self.most_rows)
        of_vaes = "latent decoder standardise epochs own_epochs lr kl_weight batch_size share_h_f"
        require_effect(self, of_vaes, when="density=vae", holds=self.density == "vae")


@dataclass(frozen=True)
class Forget:
    """The two losses of LAF and their local steps; a rate of 0 leaves its loss out.

    `updates` `alternate` takes an Adam step on L_UE, then one on L_RA (published); `joint` one at
    the alignment's rate on their sum, with half the passes; `two_stage` all rounds of L_UE before
    those of L_RA.

    `sides` `both` uses remaining and forgotten rows, `retain` the former alone (recovery).
    `sampled` draws the VAEs' latent noise in L_UE; without it z is the mean. `weighting` `none`
    is published; `oddness` weighs a forgotten row by its reconstruction error under h, over their
    mean: what is special about the forgotten rows moves most, what looks like everyone's least.
    """

    lr_unlearning: float = 1e-4
    lr_alignment: float = 1e-3
    temperature: float = 1.0
    batch_size: int = 32
    steps: int = 10
    sides: str = internal("both")
    sampled: bool = False
    weighting: str = "oddness"
    updates: str = "alternate"
    density: str = internal("vae")
    latent: int = internal(8)
    decoder: str = internal("linear")
    error: str = internal("mean")

    def __post_init__(self) -> None:
        require_number("lr_unlearning", self.lr_unlearning, at_least=0)
        require_number("lr_alignment", self.lr_alignment, at_least=0)
        used = self.lr_unlearning > 0 or self.lr_alignment > 0
        require(used, "lr_alignment", "one of the two rates above 0", self.lr_alignment)
        require_number("temperature", self.temperature, above=0)
        require_count("batch_size", self.batch_size)
        require_count("steps", self.steps)
        require_one_of("sides", self.sides, ("both", "retain"))
        require_one_of("updates", self.updates, UPDATES)
        both = self.lr_unlearning > 0 and self.lr_alignment > 0
        require(both or self.updates == "alternate", "updates", "alternate with one loss", self.updates)
        require_one_of("density", self.density, DENSITIES)
        require_one_of("weighting", self.weighting, ("none", "oddness"))
        require_one_of("decoder", self.decoder, DECODERS)
        require_one_of("error", self.error, REDUCTIONS)
        require_count("latent", self.latent)

    def weights(self, teacher: Tensor, h: Density) -> Tensor:
        """Weights [N_f] of forgotten rows from their teacher representations [N_f, D]; mean 1."""
        if self.weighting == "none" or len(teacher) == 0:
            return torch.ones(len(teacher), device=teacher.device)
        with torch.no_grad():
            error = laf_losses.reconstruction_error(h(teacher), self.error)
        mean = error.mean()
        return error / mean if mean > 0 else torch.ones_like(error)

    def unlearning(
        self, retain: Tensor, forget: Tensor, weights: Tensor, h: Density, h_f: Density, noise: Noise
    ) -> Tensor:
        """L_UE for student representations [N_r, D] and [N_f, D], forgotten rows weighted [N_f]."""
        retain = laf_losses.reconstruction_error(h(retain, noise.of(len(retain))), self.error)
        forget = laf_losses.reconstruction_error(h_f(forget, noise.of(len(forget))), self.error)
        return laf_losses.unlearning_retain(retain) + laf_losses.unlearning_forget(forget, weights)

    def alignment(self, retain: Tensor, forget: Tensor, weights: Tensor) -> Tensor:
        """L_RA for distances [N_r] and [N_f], forgotten rows weighted [N_f].

        A client without remaining rows in its step weights its term as if it had as many as it
        has forgotten ones; under Adam a factor of the whole loss changes nothing.
        """
        weight = len(retain) or len(forget)
        return laf_losses.alignment_retain(retain) + laf_losses.alignment_forget(
            forget, weight, self.temperature, weights
        )


class Noise:
    """Latent noise [N, Z] from one stream, or None when the VAEs are not sampled."""

    def __init__(self, latent: int, stream: torch.Generator | None, device: torch.device) -> None:
        self.latent, self.stream, self.device = latent, stream, device

    def of(self, rows: int) -> Tensor | None:
        """Noise for `rows` rows."""
        if self.stream is None:
            return None
        return torch.randn(rows, self.latent, generator=self.stream).to(self.device)
