import pytest
import torch
from torch import Tensor, nn

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.evaluation.latency_protocol import LatencyProtocol


class Meter:
    """Cost of everything that ran, in made-up milliseconds."""

    def __init__(self):
        self.total = 0.0


class FakeClock:
    """Reads the meter; ``speed`` maps the number of the reading to a slow-down."""

    def __init__(self, meter, num_warmups=1, speed=lambda reading: 1.0, interleaves_steps=True):
        self.meter, self.num_warmups, self.speed = meter, num_warmups, speed
        self.interleaves_steps = interleaves_steps
        self.num_readings = 0

    def time_ms(self, work):
        before = self.meter.total
        work()
        self.num_readings += 1
        return (self.meter.total - before) * self.speed(self.num_readings)


class TinyNet(nn.Module):
    """One linear map per block; a call costs 2 + 3 * depth, twice that for twice the batch."""

    num_classes: int | None = 10
    null_label = 10

    def __init__(self, depth=5, in_shape=(1, 8, 8), meter=None, batch=4):
        super().__init__()
        self.num_exit_blocks = depth
        self.in_shape = in_shape
        self.meter, self.batch = meter or Meter(), batch
        self.blocks = nn.ModuleList(nn.Linear(in_shape[2], in_shape[2]) for _ in range(depth))
        self.labels = nn.Embedding(11, in_shape[2])
        self.seen_dtypes: set[torch.dtype] = set()
        self.seen_training: set[bool] = set()

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth) -> Tensor:
        depth = int(exit_depth) if not isinstance(exit_depth, Tensor) else int(exit_depth[0])
        self.meter.total += (2 + 3 * depth) * len(x) / self.batch
        self.seen_dtypes.add(x.dtype)
        self.seen_training.add(self.training)
        if y is not None:
            x = x + 0.1 * self.labels(y)[:, None, None, :]
        for block in self.blocks[:depth]:
            x = torch.tanh(block(x))
        return x * (t.to(x.dtype).reshape(-1, 1, 1, 1) / 1000)


class EulerSolver:
    """Ten steps of a toy ODE; a run costs 7 outside the network."""

    def __init__(self, meter=None, num_steps=10):
        self.meter, self.num_steps = meter or Meter(), num_steps
        self.process, self.wants_variance = DDPMProcess(), False
        self.wants, self.cfg_interval, self.calls_per_step = "eps", None, 1

    @property
    def times(self):
        return tuple(950.0 - 100 * step for step in range(self.num_steps))

    def trajectory(self, denoiser, noise, step_noise=None):
        self.meter.total += 7
        x = noise
        for t in self.times:
            x = x - denoiser(x, t) / self.num_steps
            yield x

    def sample(self, denoiser, noise, step_noise=None):
        *_, x = self.trajectory(denoiser, noise, step_noise)
        return x


@pytest.fixture
def meter():
    return Meter()


@pytest.fixture
def net(meter):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyNet(meter=meter).eval()


@pytest.fixture
def solver(meter):
    return EulerSolver(meter)


@pytest.fixture
def protocol():
    return LatencyProtocol(
        device="cpu",
        dtype="float32",
        batch=4,
        threads=1,
        solver="euler",
        num_steps=10,
        spacing="linspace",
        cfg_scale=1.0,
    )
