"""Run a diffusers pipeline by a schedule, which one line enables.

With a preset, or with a schedule exported from a run::

    python examples/04_enable_on_a_pipeline.py --schedule D3-DiT

    schedsearch export runs/digits_dit --knee -o fast.yaml
    python examples/04_enable_on_a_pipeline.py --schedule fast.yaml

The pipeline is a DiT with random weights, so nothing is downloaded and the images show noise.
The script prints the blocks of every step and the time saved against full depth. Load your model
with ``DiTPipeline.from_pretrained`` instead.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

import schedsearch
from schedsearch.schedules.schedule_file import read_schedule_file

TRANSFORMER = {  # as config.json of a DiT; facebook/DiT-XL-2-256 has 16 heads of 72
    "num_attention_heads": 6,
    "attention_head_dim": 64,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 16,
    "patch_size": 2,
}
DECODER = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "sample_size": 32,
}


def build_pipeline(num_blocks: int) -> Any:
    """A DiT pipeline with random weights."""
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(**TRANSFORMER, num_layers=num_blocks).eval()
    pipe = DiTPipeline(transformer, AutoencoderKL(**DECODER).eval(), DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe: Any, num: int, num_steps: int) -> float:
    """Sample one batch; the seconds that it took."""
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    labels = [i % 1000 for i in range(num)]
    pipe(labels, generator=generator, num_inference_steps=num_steps, output_type="np")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", default="D3-DiT", help="schedule file or preset")
    parser.add_argument("--blocks", type=int, default=12, help="blocks of the model, for a preset")
    parser.add_argument("--num", type=int, default=4, help="images per batch")
    parser.add_argument("--num-steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of timing")
    args = parser.parse_args()
    torch.set_num_threads(1)

    # Build the pipeline.
    is_file = Path(args.schedule).is_file()
    num_blocks = args.blocks
    if is_file:
        num_blocks = read_schedule_file(args.schedule).backbone.num_exit_blocks
    pipe = build_pipeline(num_blocks)

    # Enable the schedule.
    # NOTE: A file knows the weights that it was measured with, which random ones are not. With
    # the model that it was found for, leave out strict=False.
    with schedsearch.enabled(pipe, args.schedule, strict=not is_file):
        sample(pipe, args.num, args.num_steps)
        summary = schedsearch.summary(pipe)
        print(summary)
        depths = [depth for _, depth in summary.last_run]
        print(f"blocks per step, noise -> data: {' '.join(map(str, depths))}")

    # Time it against full depth.
    shares = []
    for _ in range(args.rounds):
        full = sample(pipe, args.num, args.num_steps)
        schedsearch.enable(pipe, args.schedule, strict=not is_file)
        fast = sample(pipe, args.num, args.num_steps)
        schedsearch.disable(pipe)
        shares.append(fast / full)
    print(f"time saved: {1 - statistics.median(shares):.1%} (median of {args.rounds} rounds)")


if __name__ == "__main__":
    main()
