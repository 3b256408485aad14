"""The section ``solver``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Positive

COMMON = ("name", "num_steps", "cfg_scale", "cfg_channels", "spacing")
"""Keys that are no options of single solvers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverSettings:
    """How images are sampled."""

    name: Literal[
        "ddpm", "ddim", "dpm_solver", "euler_maruyama", "flow_euler", "flow_heun", "sit_sde"
    ] = "ddim"
    """The last three, and ``dpm_solver``, run on ``diffusion.process: flow``."""
    num_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Calls of the network per image; ``flow_heun`` makes two per step."""
    cfg_scale: float = 1.0
    """Classifier-free guidance; 1 is off."""
    cfg_channels: Count | None = None
    """Guide only the first channels (3 of 4 in DiT's code); null guides all."""
    cfg_interval: tuple[float, float] | None = None
    """Clock times, low and high, between which guidance is on (Kynkaanniemi et al. 2024). Outside
    of them only the rows with labels run. Null: always."""
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
    """Process ``vp`` and ``sit_sde`` only, in [0, 1000]. ``dpm_solver`` ends there; the others
    step from there to 0. Null takes 0.1 and, for ``euler_maruyama``, 1, as U-ViT's code does, and
    40 for ``sit_sde``, as SiT's does."""
    shift: Positive = 1.0
    """Process ``flow`` with ``flow_euler``, ``flow_heun`` or ``dpm_solver``: moves the times
    towards the noise (SD3, Eq. 23). The clock counts after it."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if self.cfg_scale < 1:
            remedy = "1 is off; U-ViT's code counts from 0, so its 0.4 is 1.4 here"
            yield "cfg_scale", f"must be >= 1.0, got {self.cfg_scale:g}", remedy
        if self.cfg_interval is None:
            return
        low, high = self.cfg_interval
        if not 0 <= low < high <= 1000:
            reason = f"must be two rising times in [0, 1000], got {low:g} and {high:g}"
            yield "cfg_interval", reason, "null guides always"
        elif low == 0 and high == 1000:
            yield "cfg_interval", "0 to 1000 is the whole clock", "remove the key"
        elif self.cfg_scale == 1:
            reason = f"guidance is off, got {low:g} to {high:g}"
            yield "cfg_interval", reason, "set cfg_scale above 1, or remove the key"

    def to_dict(self) -> dict[str, Any]:
        """As plain data; the keys of flow matching and intervals only where they are set."""
        data = asdict(self)
        unused = ("cfg_interval", None), ("shift", 1.0)
        return {key: data[key] for key in data if (key, data[key]) not in unused}

    @property
    def options(self) -> dict[str, Any]:
        """Options of the solver that differ from the defaults."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        return {
            key: value
            for key, (value, default) in values.items()
            if key not in COMMON and value != default
        }
