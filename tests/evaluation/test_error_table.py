"""The error table: which cells, paired, stratified, seeded, and how it fails."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from schedsearch.data.digits import load_digits
from schedsearch.data.sources import ImagesInMemory
from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess, build_process
from schedsearch.evaluation.error_table import (
    loss_weights,
    measure_error_table,
    stratified_times,
)
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace
from schedsearch.settings import DiffusionSettings


class Shifted(nn.Module):
    """Knows the noise of a process whose images are all zero, up to a shift per missing block."""

    num_exit_blocks = 4
    in_shape = (1, 8, 8)
    num_classes: int | None = None
    null_label = None

    def __init__(self, process: NoiseProcess, *, per_block: float = 0.1) -> None:
        super().__init__()
        self.process, self.per_block = process, per_block
        self.seen: list[tuple[float, int]] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int) -> Tensor:
        self.seen += [(float(value), exit_depth) for value in t]
        _, sigma = self.process.scales(t)
        noise = x / sigma.view(-1, 1, 1, 1).float()
        return noise + self.per_block * (self.num_exit_blocks - exit_depth)


GREY = ImagesInMemory(torch.full((8, 1, 8, 8), 128, dtype=torch.uint8), None, None)
"""Images of nearly 0, which is what :class:`Shifted` assumes."""

SPACE = SearchSpace(2, 4, num_intervals=5)


def measure(net: nn.Module, data=GREY, space=SPACE, **changes) -> ErrorTable:
    values = {"num_images": 16, "batch_size": 7, "seed": 3, "exits": "uniform", "num_steps": 9}
    process = changes.pop("process", None) or DDPMProcess()
    return measure_error_table(net, data, process, space, **{**values, **changes})


def mean_alpha(num_intervals: int, power: int = 1) -> np.ndarray:
    """Mean of a power of alpha over each interval."""
    alpha, _ = DDPMProcess().scales(torch.arange(1000))
    return (alpha**power).view(num_intervals, -1).mean(1).numpy()


def test_the_loss_of_each_exit_by_hand() -> None:
    table = measure(Shifted(DDPMProcess()))
    assert table.depths == (2, 3, 4)
    assert table.num_intervals == 5
    # A shift s of the prediction is a squared error of s ** 2, weighted by alpha; near the data
    # the images' own value, 0.004, is not quite negligible against the noise.
    expected = np.outer(mean_alpha(5), [0.04, 0.01, 0.0])
    np.testing.assert_allclose(table.excess()[1:], expected[1:], rtol=0.2, atol=1e-4)
    assert (table.exits, table.num_steps, table.num_images, table.seed) == ("uniform", 9, 16, 3)
    assert table.seconds > 0


def test_all_depths_of_an_interval_see_the_same_times_which_lie_inside() -> None:
    net = Shifted(DDPMProcess())
    measure(net)
    for depth in (2, 3, 4):
        times = np.array([t for t, exit_depth in net.seen if exit_depth == depth])
        assert len(times) == 5 * 16
        assert (np.diff(times // 200) >= 0).all()
        assert np.bincount((times // 200).astype(int)).tolist() == [16] * 5
    by_depth = [[t for t, d in net.seen if d == depth] for depth in (2, 3, 4)]
    assert by_depth[0] == by_depth[1] == by_depth[2]
    assert {d for _, d in net.seen} == {2, 3, 4}


def test_standard_errors_belong_to_paired_differences() -> None:
    class Noisy(Shifted):
        def forward(self, x, t, y, *, exit_depth):
            # A large error that all exits share, and none in their difference.
            return super().forward(x, t, y, exit_depth=4) + 3.0 * x.mean((1, 2, 3), keepdim=True)

    table = measure(Noisy(DDPMProcess()))
    assert np.array(table.losses).max() > 0.01
    assert np.array(table.standard_errors).max() == 0.0


def test_standard_errors_fall_with_the_images() -> None:
    process = DDPMProcess()

    class Rough(Shifted):
        def forward(self, x, t, y, *, exit_depth):
            error = (4 - exit_depth) * x.mean((1, 2, 3), keepdim=True)
            return super().forward(x, t, y, exit_depth=4) + error

    few, many = (measure(Rough(process), num_images=n) for n in (50, 800))
    ratio = np.array(few.standard_errors)[:, 0] / np.array(many.standard_errors)[:, 0]
    assert 2.5 < np.median(ratio) < 6.0  # sqrt(16) = 4


def test_standard_errors_are_those_of_a_mean() -> None:
    """The deviation of the paired differences over sqrt(n), from the squared errors themselves."""
    seen: dict[int, list[tuple[float, float]]] = {2: [], 3: [], 4: []}

    class Rough(Shifted):
        def forward(self, x, t, y, *, exit_depth):
            output = super().forward(x, t, y, exit_depth=4)
            error = (4 - exit_depth) * x.mean((1, 2, 3), keepdim=True)
            seen[exit_depth] += zip(t.tolist(), error.flatten().tolist(), strict=True)
            return output + error

    process = DDPMProcess()
    table = measure(Rough(process), space=SearchSpace(2, 4, num_intervals=1), num_images=40)
    for column, depth in enumerate((2, 3)):
        t, error = (torch.tensor(values) for values in zip(*seen[depth], strict=True))
        # The images are not quite black: their 0.004 is a small part of every squared error.
        alpha, _ = process.scales(t.long())
        differences = alpha * error.double() ** 2
        expected = float(differences.std()) / 40**0.5
        assert table.standard_errors[0][column] == pytest.approx(expected, rel=0.15)
    assert table.standard_errors[0][2] == 0.0


@pytest.mark.parametrize("process", [DDPMProcess(), VPProcess()], ids=["ddpm", "vp"])
@pytest.mark.parametrize("num_intervals", [1, 7, 10])
def test_stratified_times(process: NoiseProcess, num_intervals: int) -> None:
    generator = torch.Generator().manual_seed(0)
    width = 1000 / num_intervals
    for interval in range(num_intervals):
        times = stratified_times(process, interval, num_intervals, 50, generator)
        assert times.dtype == process.draw_times(1, generator).dtype
        assert len(times) == 50
        clock = times.double()
        assert float(clock.min()) >= interval * width
        assert float(clock.max()) < (interval + 1) * width + 1e-3
        parts = ((clock - interval * width) / width * 50).numpy()
        assert np.abs(parts - np.arange(50) - 0.5).max() < 0.5 + 50 / width + 0.1
    if isinstance(process, DDPMProcess):
        times = stratified_times(process, num_intervals - 1, num_intervals, 5000, generator)
        assert int(times.max()) == 999


@pytest.mark.parametrize("num_intervals", [15, 30, 60])
def test_times_stay_in_intervals_whose_width_is_rounded(num_intervals: int) -> None:
    generator = torch.Generator().manual_seed(0)
    intervals = ExitSchedule(tuple(range(num_intervals)))
    for interval in range(num_intervals):
        times = stratified_times(DDPMProcess(), interval, num_intervals, 500, generator)
        assert int(times.max()) <= 999
        assert set(intervals.depths_at(times).tolist()) == {interval}


def test_pretrained_weights_and_the_seed() -> None:
    from schedsearch.backbones.weights.checkpoint import load_backbone_from
    from schedsearch.config import read_settings

    net = load_backbone_from(read_settings("digits_dit").backbone)
    data, space = load_digits(), SearchSpace(6, 10, num_intervals=2)
    first = measure(net, data, space)
    assert first.losses == measure(net, data, space).losses
    other = measure(net, data, space, seed=4)
    assert first.losses != other.losses
    assert (first.excess()[:, 0] > 0).all()  # four blocks less are worse at any time


def test_v_prediction_is_measured_as_such() -> None:
    process = DDPMProcess(prediction="v")

    class Zero(Shifted):
        def forward(self, x, t, y, *, exit_depth):
            return torch.zeros_like(x)

    losses = np.array(measure(Zero(process), process=process, num_images=200).losses)[:, 0]
    # v = alpha eps for images of zero, and its weight is alpha ** 3.
    np.testing.assert_allclose(losses, mean_alpha(5, power=5), rtol=0.15)


@pytest.mark.parametrize("process", [DDPMProcess(), VPProcess()], ids=["ddpm", "vp"])
def test_equal_errors_of_the_noise_weigh_the_same_whatever_is_predicted(process) -> None:
    t = torch.tensor([100.0, 400.0, 900.0])
    alpha, sigma = process.scales(t)
    shift = 0.3 * torch.ones(3, dtype=torch.float64)
    weighted = {}
    for name, error in {"eps": shift, "v": shift / alpha, "x0": shift * sigma / alpha}.items():
        process.prediction = name
        weighted[name] = loss_weights(process, t) * error**2
    process.prediction = "eps"
    torch.testing.assert_close(weighted["eps"], alpha * 0.09)
    torch.testing.assert_close(weighted["v"], weighted["eps"])
    torch.testing.assert_close(weighted["x0"][1:], weighted["eps"][1:])
    assert weighted["x0"][0] < weighted["eps"][0]  # the cut


def test_an_error_weighs_the_same_in_flow_matching_at_the_same_snr() -> None:
    vp = VPProcess()
    t = torch.tensor([100.0, 400.0, 900.0], dtype=torch.float64)
    alpha, sigma = vp.scales(t)
    clock = 1000 * sigma / (alpha + sigma)  # where flow matching has this ratio
    error = 0.3 * torch.ones(3, dtype=torch.float64)
    flow_alpha = 1 - clock / 1000
    errors = {"velocity": error / flow_alpha, "eps": error}
    for prediction, own in errors.items():
        found = loss_weights(FlowProcess("sit", prediction), clock) * own**2
        torch.testing.assert_close(found, alpha * 0.09)


def test_flow_matching_is_measured_from_data_to_noise() -> None:
    process = FlowProcess("sigma1000")

    class Zero(Shifted):
        def forward(self, x, t, y, *, exit_depth):
            return torch.zeros_like(x)

    losses = np.array(measure(Zero(process), process=process, num_images=200).losses)[:, 0]
    sigma = torch.linspace(0, 1, 5001, dtype=torch.float64)[:-1]
    # The velocity is the noise for images of zero, and its error counts (1 - sigma)^2 alpha.
    weights = (1 - sigma) ** 3 / torch.hypot(1 - sigma, sigma)
    np.testing.assert_allclose(losses, weights.view(5, -1).mean(1).numpy(), rtol=0.15)


def test_x0_prediction_has_a_finite_weight_at_the_data() -> None:
    process = VPProcess("x0")
    assert loss_weights(process, torch.zeros(1)).tolist() == [5.0]


def test_broken_weights_are_an_error_with_a_remedy() -> None:
    class Diverged(Shifted):
        def forward(self, x, t, y, *, exit_depth):
            return x * float("nan")

    with pytest.raises(TrialError, match=r"interval 0 is not finite.*recipe\.lr"):
        measure(Diverged(DDPMProcess()))


def test_classes_without_labels() -> None:
    net = Shifted(DDPMProcess())
    net.num_classes = 10
    with pytest.raises(ConfigError, match="10 classes, but the data has no labels"):
        measure(net)


def test_the_cells_follow_the_edges() -> None:
    edges = (0.0, 40.5, 500.0, 1000.0)
    net = Shifted(DDPMProcess())
    table = measure(net, space=SearchSpace(4, 4, 3, edges=edges), num_images=50)
    assert table.num_intervals == 3
    times = [t for t, _ in net.seen]
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = times[50 * i : 50 * (i + 1)]
        assert low <= min(inside)
        assert max(inside) < high
        parts = sorted((t - low) / (high - low) for t in inside)
        assert max(abs(p - (k + 0.5) / 50) for k, p in enumerate(parts)) < 0.04
    flow = build_process(DiffusionSettings(process="flow", time="sigma"))
    generator = torch.Generator().manual_seed(0)
    drawn = stratified_times(flow, 0, 3, 50, generator, edges)
    assert drawn.is_floating_point()
    assert drawn.max() < 40.5
