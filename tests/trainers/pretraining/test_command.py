"""What the pretraining commands write beside the weights."""

import pytest

from trainers.pretraining.command import _without_folders


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("/data/out.safetensors", "out.safetensors"),
        ("--path=/data/mnist/", "--path=mnist"),
        ("~/data", "data"),
        ("--lr", "--lr"),
        ("2e-3", "2e-3"),
        ("--ema-decay=0.99", "--ema-decay=0.99"),
    ],
)
def test_the_command_is_kept_without_the_folders_of_the_machine(word: str, shown: str) -> None:
    assert _without_folders(word) == shown
