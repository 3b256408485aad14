"""Search schedules for your own flow-matching model, which predicts the data.

    python examples/05_flow_matching_model.py [--output runs/flow]

The model is in my_flow_model.py, with the questions that its search space answers. The script
trains it for some seconds on the digits, writes the space, and runs the command line on it::

    cd examples && schedsearch run ../runs/flow/space.yaml --output ../runs/flow/run

It takes a few minutes. The numbers are too small for conclusions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from my_flow_model import EarlyExitPainter

import schedsearch
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.config import read_model_settings
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.losses import TrainingLoss
from schedsearch.diffusion.process import build_process

HERE = Path(__file__).resolve().parent

SPACE = """\
name: painter
backbone:
  family: my_flow_model:EarlyExitPainter
  config: {{size: 8, patch: 2, width: 48, depth: 6, num_classes: 10}}
  checkpoint: painter.safetensors
# The network is fed sigma and predicts the clean image. Times of training gather in the middle.
diffusion: {{process: flow, time: sigma, prediction: x0, times: logit_normal}}
data: {{source: digits}}
space: {{num_intervals: 10, min_depth: 1, max_depth: 6, monotone: nonincreasing}}
warm_start: [full, [6, 5, 4, 3, 3, 2, 2, 2, 1, 1]]
profile: {{num_images: 100}}
plan: null      # plans run a network block by block; this one offers exits only
recipe: {{num_steps: {num_steps}, batch_size: 64, lr: 1.0e-3, label_dropout: 0.1}}
# 20 network calls: ten steps of Heun's method. Guidance needs the model's null_label.
solver: {{name: flow_heun, num_steps: 20, cfg_scale: 1.5}}
evaluation:
  num_samples: {num_samples}
  features: digits
  latency_batch: 16
  latency_repeats: 3
  confirm_seeds: 0
search: {{n_trials: {n_trials}, seed: 0}}
resources: {{num_workers: {workers}, cpus_per_trial: 1}}
"""


def pretrain(net: EarlyExitPainter, space: Path, num_steps: int) -> None:
    """Train the painter at full depth, with the process of the space."""
    process = build_process(read_model_settings(space, ["backbone.checkpoint=null"]).diffusion)
    loss_of = TrainingLoss("mse", process, learns_variance=False)
    source, generator = load_digits(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    lr_schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, num_steps)
    losses = []
    for _ in range(num_steps):
        x0, labels = source.batch(128, generator)
        t = process.draw_times(len(x0), generator)
        noise = torch.randn(x0.shape, generator=generator)
        dropped = torch.rand(len(x0), generator=generator) < 0.1  # for guidance
        labels = torch.where(dropped, net.null_label, labels)
        x_t = process.q_sample(x0, t, noise)
        output = net(x_t, process.network_time(t), labels, exit_depth=net.num_exit_blocks)
        loss = loss_of(output, x0, t, noise)["mse"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_schedule.step()
        losses.append(loss.item())
    print(f"trained the painter: velocity loss {losses[0]:.1f} -> {np.mean(losses[-50:]):.3f}")


def run_command(*arguments: str) -> None:
    """Run the command line in this folder, which holds the imported module."""
    subprocess.run([sys.executable, "-m", "schedsearch", *arguments], cwd=HERE, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/flow"))
    parser.add_argument("--pretrain-steps", type=int, default=800)
    parser.add_argument("--num-steps", type=int, default=50, help="fine-tune steps of a trial")
    parser.add_argument("--num-samples", type=int, default=500, help="images per FID")
    parser.add_argument("--n-trials", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)

    # Write the space and the weights.
    folder = args.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    weights, space = folder / "painter.safetensors", folder / "space.yaml"
    space.write_text(
        SPACE.format(
            num_steps=args.num_steps,
            num_samples=args.num_samples,
            n_trials=args.n_trials,
            workers=args.workers,
        ),
        encoding="utf-8",
    )
    if not weights.exists():
        torch.manual_seed(0)
        net = EarlyExitPainter()
        pretrain(net, space, args.pretrain_steps)
        save_weights(net, weights)
    # Sample from Python.
    loaded = schedsearch.load_backbone(space)
    schedule = schedsearch.ExitSchedule((6, 6, 6, 5, 5, 4, 4, 3, 3, 2))
    images = schedsearch.sample(loaded, schedule, solver="flow_euler", num_steps=20, num=4)
    print(f"four images from Python: pixel std {float(images.std()):.2f}")
    # Run the search.
    sys.stdout.flush()
    run_command("check", str(space))
    run_command("run", str(space), "--output", str(folder / "run"))
    print(f"again, as JSON: schedsearch front {os.path.relpath(folder / 'run')} --format json")


if __name__ == "__main__":
    main()
