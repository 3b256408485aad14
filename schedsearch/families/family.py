"""What a schedule has to know of a family of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

ProcessKind = Literal["ddpm", "flow"]
"""What the clock counts.

``ddpm``: timesteps, also 1000 s of the continuous process. ``flow``: 1000 sigma after the
sampler's shift."""

TimeName = Literal["timestep", "sigma1000", "sigma", "sit"]
"""What a network is fed: 0..999, 1000 sigma, sigma, or 1 - sigma.

``sit`` is the last, as in SiT's official code."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Converts the time that a network is fed: ``clock = scale * value + offset``."""

    scale: float = 1.0
    offset: float = 0.0
    process: ProcessKind | None = None
    """None where the class serves both."""


TIMES: Mapping[str, Clock] = MappingProxyType(
    {
        "timestep": Clock(process="ddpm"),
        "sigma1000": Clock(process="flow"),
        "sigma": Clock(1000.0, process="flow"),
        "sit": Clock(-1000.0, 1000.0, "flow"),
    }
)
"""Clocks by the values of ``time``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One row of the table: where blocks and time of a model are.

    The class of a model has to match ``class_name`` and ``package``, and the model needs the
    attributes in ``needs``.
    """

    name: str
    """Name in messages; also ``backbone.family`` of a schedule file for such a model."""
    class_name: str
    package: str | None = None
    """Start of the module's name; None for any package that no other row names."""
    needs: tuple[str, ...] = ()
    """Attributes that tell the model from others with the same class name."""
    lists: tuple[str, ...] = ()
    """Attributes with the blocks, in running order; depth counts through all."""
    time_argument: str
    """Argument with the time, in the call of ``arm_at``."""
    time_position: int
    """Its position; the module itself is not counted."""
    arm_at: str = ""
    """Submodule whose call carries the time; empty for the model itself."""
    disarm_at: str = ""
    """Submodule that runs after the last block; empty for the model itself."""
    clock: Clock | None = None
    """None where the class does not say what it is fed; then the caller must."""
    clock_scale_in_config: str | None = None
    """Key of the model's config: the time it is fed was multiplied by this."""
    no_clock_if: str | None = None
    """Key of the model's config that says that it is fed another kind of time."""
    may_choose_time: bool = False
    """Whether the caller may say what the model is fed."""
    sigma_attributes: tuple[str, ...] = ()
    """Attributes of relatives that are fed sigma, under the same class name."""
    past_exit: Literal["nothing", "skip_linear"] = "nothing"
    """What a block past the exit still runs: nothing, or its long skip (U-ViT)."""
    exit_argument: str | None = None
    """Argument with the exit depth, where the model skips blocks itself."""
    min_depth: int = 1
    """Fewest blocks that the model can run."""
    min_depth_attribute: str | None = None
    """Attribute with this number, where a relative has another one."""
    other_names: tuple[str, ...] = ()
    """Other values of ``backbone.family`` whose schedules fit."""

    @property
    def schedule_families(self) -> tuple[str, ...]:
        """Values of ``backbone.family`` in schedule files that fit."""
        return (self.name, *self.other_names)
