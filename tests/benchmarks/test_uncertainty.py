"""Agreement of an uncertainty module with the error."""

import pytest
import torch

from benchmarks.uncertainty import Agreement, agreements, correlation, explained_by_step, page
from schedsearch.diffusion.process import DDPMProcess
from tests.backbones.small_models import DEPTH, make_dit
from tests.methods.exits.exit_networks import with_module


class Noise:
    """Images of noise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def batch(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn((size, *self.shape), generator=generator)
        return images, torch.randint(3, (size,), generator=generator)


def test_a_module_that_knows_the_error_correlates_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net = with_module(make_dit()).eval()
    plain = agreements(net, Noise(net.in_shape), DDPMProcess(), 8, seed=0)
    assert [row.clock for row in plain] == [50 + 100 * i for i in range(10)]
    assert all(abs(row.correlation) < 1 for row in plain)
    errors = iter(row.error for row in plain for _ in range(DEPTH))
    # A module that says the mean error of a time for every image is blind.
    monkeypatch.setattr(
        net.uem, "mean_uncertainty", lambda tokens, _: torch.full((8,), next(errors))
    )
    blind = agreements(net, Noise(net.in_shape), DDPMProcess(), 8, seed=0)
    assert [row.correlation for row in blind] == [0.0] * 10
    assert [row.error for row in blind] == [row.error for row in plain]
    assert [row.predicted for row in blind] == pytest.approx([row.error for row in plain])


def test_correlation() -> None:
    a = torch.tensor([1.0, 2.0, 4.0])
    assert correlation(a, 3 * a + 1) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)
    assert correlation(a, torch.ones(3)) == 0


def test_the_share_of_variance_that_the_step_explains() -> None:
    assert explained_by_step([[1, 1], [5, 5]]) == 1
    assert explained_by_step([[1, 5], [1, 5]]) == 0
    assert explained_by_step([[1, 3], [3, 5]]) == pytest.approx(0.5)


def test_the_page() -> None:
    row = Agreement(clock=50, error=0.25, predicted=0.2, correlation=0.456)
    assert "| 50 | 0.250 | 0.200 | 0.46 |" in page([row], 0.987)
    assert "98.7% of the exit depth" in page([row], 0.987)
