"""How a latency is measured: device, arithmetic, batch, threads and solver."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from schedsearch.evaluation.sampling import device_of
from schedsearch.protocols import Backbone

if TYPE_CHECKING:
    from schedsearch.settings import EvaluationSettings, SolverSettings, StudySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyProtocol:
    """How a latency was measured; only latencies with equal protocols compare."""

    device: str
    """Name of the processor or GPU."""
    dtype: str
    """Data type of the weights: ``float32``, ``bfloat16`` or ``float16``."""
    batch: int
    """Images sampled at once."""
    threads: int
    """CPU threads of torch."""
    solver: str
    num_steps: int
    spacing: str
    cfg_scale: float
    """Guidance scale. Guided calls run twice the batch, which the latency includes."""
    cfg_channels: int | None = None
    compile: bool = False
    """Whether ``torch.compile`` compiles the blocks."""
    solver_options: str = ""
    """Options of the solver that differ from its defaults: ``order=3, method=singlestep``."""

    @property
    def arithmetic(self) -> str:
        """Data type and compilation, as text for people."""
        return f"{self.dtype}, compiled" if self.compile else self.dtype

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data; solver options only where there are some."""
        data = asdict(self)
        return data if self.solver_options else {k: data[k] for k in data if k != "solver_options"}


def latency_protocol(
    net: Backbone, solver: SolverSettings, evaluation: EvaluationSettings, threads: int
) -> LatencyProtocol:
    """Return the protocol of a search space on the device of ``net``."""
    return LatencyProtocol(
        device=device_name(device_of(net)),
        dtype=evaluation.latency_dtype,
        batch=evaluation.latency_batch,
        threads=threads,
        solver=solver.name,
        num_steps=solver.num_steps,
        spacing=solver.spacing,
        cfg_scale=float(solver.cfg_scale),
        cfg_channels=solver.cfg_channels,
        compile=evaluation.latency_compile,
        solver_options=", ".join(f"{key}={value}" for key, value in solver.options.items()),
    )


def study_protocol(net: Backbone, settings: StudySettings) -> LatencyProtocol:
    """Return the protocol of a study: its solver, its evaluation and the threads of a trial."""
    threads = settings.resources.cpus_per_trial
    return latency_protocol(net, settings.solver, settings.evaluation, threads)


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or ``cpu`` with the processor's name if known."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    with contextlib.suppress(OSError):  # Linux only
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"cpu ({line.partition(':')[2].strip()})"
    return f"cpu ({platform.processor()})" if platform.processor() else "cpu"
