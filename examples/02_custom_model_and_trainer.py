"""Search schedules for your own model, trainer and features.

    python examples/02_custom_model_and_trainer.py [--output runs/custom]

The parts are images in an npz file, an MLP-Mixer (my_model.py), a fine-tune with Min-SNR
weighting (my_trainer.py) and features for FID (my_features.py). The script trains the mixer for
some seconds, writes a search space, and runs the command line on it::

    cd examples && schedsearch run ../runs/custom/space.yaml --output ../runs/custom/run

It takes about a minute. The numbers are too small for conclusions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from my_model import PatchMixer
from sklearn.datasets import load_digits

from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.data.npz import load_npz
from schedsearch.diffusion.process import DDPMProcess

HERE = Path(__file__).resolve().parent

SPACE = """\
name: mixer
backbone:
  family: my_model:PatchMixer
  config: {{size: 8, patch: 2, width: 48, depth: 6, num_classes: 10}}
  checkpoint: mixer.safetensors
data: {{source: npz, path: digits.npz}}
space: {{num_intervals: 10, min_depth: 1, max_depth: 6, monotone: nonincreasing}}
warm_start: [full, D3-DiT, [6, 5, 4, 3, 3, 2, 2, 2, 1, 1]]
trainer: my_trainer:MinSnrTrainer
profile: {{num_images: 100}}
recipe: {{num_steps: {num_steps}, batch_size: 64, lr: 1.0e-3, extra: {{gamma: 5.0}}}}
solver: {{name: dpm_solver, num_steps: 20}}
evaluation:
  num_samples: {num_samples}
  features: my_features:PrincipalComponents
  features_path: digits.npz
  latency_batch: 16
  latency_repeats: 3
  confirm_seeds: 0
search: {{n_trials: {n_trials}, seed: 0}}
resources: {{backend: {backend}, num_workers: {workers}, cpus_per_trial: 1}}
"""


def write_images(path: Path) -> None:
    """Write scikit-learn's digits as uint8 (N, H, W, C), with labels."""
    digits = load_digits()
    images = np.rint(digits.images * 255.0 / 16.0).astype(np.uint8)[..., None]
    np.savez(path, images=images, labels=digits.target)


def pretrain(data: Path, num_steps: int) -> PatchMixer:
    """Train the mixer at full depth to predict the noise."""
    torch.manual_seed(0)
    net, process = PatchMixer(), DDPMProcess()
    source = load_npz(data, net.in_shape)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    lr_schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, num_steps)
    losses = []
    for _ in range(num_steps):
        x0, labels = source.batch(128, generator)
        t = torch.randint(1000, (len(x0),), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        prediction = net(process.q_sample(x0, t, noise), t, labels, exit_depth=6)
        loss = (prediction - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_schedule.step()
        losses.append(loss.item())
    print(f"trained the mixer: loss {losses[0]:.2f} -> {np.mean(losses[-50:]):.3f}")
    return net


def schedsearch(*arguments: str) -> None:
    """Run the command line in this folder, which holds the imported modules."""
    subprocess.run([sys.executable, "-m", "schedsearch", *arguments], cwd=HERE, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/custom"))
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    parser.add_argument("--num-steps", type=int, default=50, help="fine-tune steps of a trial")
    parser.add_argument("--num-samples", type=int, default=500, help="images per FID")
    parser.add_argument("--n-trials", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", choices=("local", "ray"), default="local")
    args = parser.parse_args()
    torch.set_num_threads(1)

    # Write data and weights.
    folder = args.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    data, weights, space = (
        folder / "digits.npz",
        folder / "mixer.safetensors",
        folder / "space.yaml",
    )
    if not weights.exists():
        write_images(data)
        save_weights(pretrain(data, args.pretrain_steps), weights)
    # Write the space.
    space.write_text(
        SPACE.format(
            num_steps=args.num_steps,
            num_samples=args.num_samples,
            n_trials=args.n_trials,
            backend=args.backend,
            workers=args.workers,
        ),
        encoding="utf-8",
    )
    # Run the search.
    sys.stdout.flush()
    schedsearch("check", str(space))
    schedsearch("run", str(space), "--output", str(folder / "run"))
    print(f"again, as JSON: schedsearch front {os.path.relpath(folder / 'run')} --format json")


if __name__ == "__main__":
    main()
