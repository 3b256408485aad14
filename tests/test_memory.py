"""Numbers that no machine has memory for end in one line."""

import numpy as np
import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.memory import is_out_of_memory, reason_of, require_memory, within_memory

HUGE = 10**14


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.empty(HUGE),
        lambda: torch.empty(HUGE),
        lambda: torch.empty(2**40, 2**40),
        lambda: np.empty((2**40, 2**40)),
        lambda: bytearray(HUGE),
    ],
)
def test_a_failed_allocation_names_the_number(allocate) -> None:
    said = r"Out of memory with --batch 7; lower it\. \S"
    with pytest.raises(ConfigError, match=said), within_memory("--batch 7"):
        allocate()


def test_a_long_reason_is_cut() -> None:
    assert reason_of(MemoryError("no\n room")) == "no room"
    assert reason_of(MemoryError("x" * 200)) == "x" * 200
    assert reason_of(MemoryError("x" * 201)) == "x" * 197 + "..."


def test_other_errors_pass() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"), within_memory("--batch 7"):
        raise RuntimeError("shapes")


def test_what_a_machine_cannot_hold_is_refused_before_it_is_tried() -> None:
    require_memory(1000, "--num 4")
    with pytest.raises(ConfigError, match=r"--num 9 takes at least 100,000\.0 GB"):
        require_memory(HUGE, "--num 9")
