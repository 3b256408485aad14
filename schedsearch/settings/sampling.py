"""The section ``solver``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.settings.common import Count

COMMON = ("name", "num_steps", "cfg_scale", "cfg_channels", "spacing")
"""Keys that are no options of single solvers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverSettings:
    """How images are sampled."""

    name: Literal["ddpm", "ddim", "dpm_solver", "euler_maruyama"] = "ddim"
    num_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Calls of the network per image."""
    cfg_scale: Annotated[float, Field(ge=1)] = 1.0
    """Classifier-free guidance; 1 is off."""
    cfg_channels: Count | None = None
    """Guide only the first channels (3 of 4 in DiT's code); null guides all."""
    spacing: Literal["linspace", "leading", "trailing"] = "linspace"
    """Timesteps of a process with 1000 of them. The continuous process and singlestep
    ``dpm_solver`` lay out their own times and refuse another value."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """``ddim`` only: share of the noise of DDPM (DDIM, Eq. 16)."""
    variance: Literal["auto", "learned", "fixed_small", "fixed_large"] = "auto"
    """``ddpm`` only; ``auto``: learned where the backbone learns it, else ``fixed_small``."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """``dpm_solver`` only."""
    method: Literal["multistep", "singlestep"] = "multistep"
    """``dpm_solver`` only; U-ViT's code: ``singlestep`` with order 3 and ``dpmsolver``."""
    algorithm: Literal["dpmsolver++", "dpmsolver"] = "dpmsolver++"
    """``dpm_solver`` only: DPM-Solver++ integrates in the data, DPM-Solver in the noise."""
    end_time: Annotated[float, Field(ge=1e-3, lt=1000)] | None = None
    """Continuous process only, in [0, 1000]. ``dpm_solver`` ends there; ``euler_maruyama`` steps
    from there to 0. Null takes 0.1 and 1, as U-ViT's code does."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of the solver that differ from the defaults."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        return {
            key: value
            for key, (value, default) in values.items()
            if key not in COMMON and value != default
        }
