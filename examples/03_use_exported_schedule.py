"""Use a schedule in Python: load it, sample with it, measure the time saved.

With a preset, or with a schedule exported from a run::

    python examples/03_use_exported_schedule.py --schedule D3-DiT

    schedsearch export runs/digits_dit --knee -o fast.yaml --weights fast.safetensors
    python examples/03_use_exported_schedule.py --schedule fast.yaml

The script samples with full depth and with the schedule from the same noise, alternately, and
times both. The picture shows full depth in the upper rows and the schedule in the lower rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import schedsearch
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.data.pixels import to_uint8
from schedsearch.evaluation.grid import save_grid
from schedsearch.evaluation.sampling import balanced_labels, starting_noise
from schedsearch.schedules.hand_made import preset_for
from schedsearch.schedules.schedule_file import read_schedule_file

SOLVER = {"solver": "dpm_solver", "num_steps": 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", default="D3-DiT", help="schedule file or preset")
    parser.add_argument("--space", default="digits_dit", help="search space: the backbone")
    parser.add_argument("--num", type=int, default=64, help="images per batch")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of timing")
    parser.add_argument("--output", type=Path, default=Path("runs/full_and_fast.png"))
    args = parser.parse_args()
    torch.set_num_threads(1)

    # Load network and schedule.
    # NOTE: Two networks, because the second one may get weights fine-tuned for the schedule.
    full_net: Any = schedsearch.load_backbone(args.space)
    fast_net: Any = schedsearch.load_backbone(args.space)
    depth = full_net.num_exit_blocks
    if args.schedule in schedsearch.presets:
        schedule = preset_for(args.schedule, depth)  # scaled from the paper's depth
    else:
        path = Path(args.schedule)
        schedule = schedsearch.load_schedule(path)
        if (weights := read_schedule_file(path).weights) is not None:
            load_weights(fast_net, path.parent / weights)
    full = schedsearch.ExitSchedule.flat(depth)
    print(f"blocks, data -> noise: {schedule}   (of {depth})")

    # Sample and time.
    start = {
        "noise": starting_noise(0, args.num, full_net.in_shape),
        "labels": balanced_labels(args.num, full_net.num_classes),
    }
    runs = {"full depth": (full_net, full), args.schedule: (fast_net, schedule)}
    images: dict[str, torch.Tensor] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds + 1):  # the first round warms up
        for name, (net, exits) in runs.items():
            begin = time.perf_counter()
            images[name] = schedsearch.sample(net, exits, **SOLVER, **start)
            times[name].append(1e3 * (time.perf_counter() - begin))
    for name, values in times.items():
        print(f"{name:<12} {statistics.median(values[1:]):8.1f} ms per batch of {args.num}")
    ratios = [
        fast / slow
        for slow, fast in zip(times["full depth"][1:], times[args.schedule][1:], strict=True)
    ]
    print(f"saved: {1 - statistics.median(ratios):.1%} (median of {args.rounds} paired rounds)")

    # Save the picture.
    rows = torch.cat([to_uint8(samples[:20]) for samples in images.values()])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_grid(rows, args.output)
    print(f"picture: {args.output}")


if __name__ == "__main__":
    main()
