import pytest
import torch

from schedsearch.backbones.exits import Exits

CPU = torch.device("cpu")
UP_TO_4 = range(5)


def test_one_depth_moves_nothing() -> None:
    exits = Exits.of(2, 7, UP_TO_4, CPU)
    assert (exits.alive, exits.order) == ((7, 7), None)
    assert [exits.num_alive(block) for block in range(4)] == [7, 7, 0, 0]
    batch = torch.randn(7, 3)
    assert exits.sort(batch) is batch
    assert exits.restore(batch) is batch
    assert Exits.of(0, 7, UP_TO_4, CPU).alive == ()


def test_deepest_first_and_back() -> None:
    depths = torch.tensor([1, 4, 0, 2, 2, 0])
    exits = Exits.of(depths, 6, UP_TO_4, CPU)
    assert exits.sort(depths).tolist() == [4, 2, 2, 1, 0, 0]
    assert exits.alive == tuple(int((depths > block).sum()) for block in range(4))
    batch = torch.randn(6, 2, 3)
    assert torch.equal(exits.restore(exits.sort(batch)), batch)


def test_every_batch_of_three() -> None:
    for depths in torch.cartesian_prod(*[torch.arange(5)] * 3):
        exits = Exits.of(depths, 3, UP_TO_4, CPU)
        alive = [exits.num_alive(block) for block in range(4)]
        assert alive == [int((depths > block).sum()) for block in range(4)]


def test_empty_batch() -> None:
    exits = Exits.of(torch.zeros(0, dtype=torch.long), 0, UP_TO_4, CPU)
    assert exits.alive == ()
    assert exits.restore(exits.sort(torch.zeros(0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    "exit_depth",
    [torch.tensor([1, 2]), torch.tensor(2), torch.ones(3), torch.ones(3, dtype=torch.bool)],
)
def test_one_integer_per_sample(exit_depth: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"one integer per sample, shape \(3,\), but got torch"):
        Exits.of(exit_depth, 3, UP_TO_4, CPU)


@pytest.mark.parametrize("depth", [-1, 5])
def test_depths_outside_the_model(depth: int) -> None:
    for exit_depth in (depth, torch.tensor([2, depth, 3])):
        with pytest.raises(ValueError, match=rf"lie in 0\.\.4 for this model, got {depth}\."):
            Exits.of(exit_depth, 3, UP_TO_4, CPU)
