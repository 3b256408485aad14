import time

import pytest
import torch

from schedsearch.evaluation.clocks import CpuClock, CudaClock, build_clock


def test_the_wall_clock_reads_milliseconds():
    clock = build_clock(torch.device("cpu"))
    assert isinstance(clock, CpuClock)
    assert clock.num_warmups >= 1
    assert clock.time_ms(lambda: time.sleep(0.02)) >= 19


def test_only_runs_on_a_cpu_are_interleaved_step_by_step():
    assert build_clock(torch.device("cpu")).interleaves_steps
    assert not CudaClock(torch.device("cuda", 0)).interleaves_steps


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_clock_of_a_gpu_waits_for_the_end():
    big = torch.randn(4096, 4096, device="cuda")
    clock = build_clock(big.device)
    clock.time_ms(lambda: big @ big)
    one = clock.time_ms(lambda: big @ big)
    ten = clock.time_ms(lambda: [big @ big for _ in range(20)])
    assert ten > 5 * one
