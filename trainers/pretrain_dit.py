"""Trains a small class-conditional DiT from scratch and writes its EMA weights.

Makes the weights that ship: ``python -m trainers.pretrain_dit --data digits --output FILE``.
Full depth, eps loss, no resuming: it takes minutes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from schedsearch.backbones.checkpoint import save_weights
from schedsearch.backbones.dit import DiT
from schedsearch.data.digits import load_digits
from schedsearch.diffusion.losses import mse
from schedsearch.diffusion.process import DDPMProcess
from trainers.ema import averaged_net, start_ema

WARMUP_STEPS = 100
DECAY_SHARE = 0.4
"""Share of the steps, at the end, over which the learning rate falls linearly to 0."""
LABEL_DROPOUT = 0.1
MAX_GRAD_NORM = 1.0


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the command; the defaults made the weights that ship."""
    parser = argparse.ArgumentParser(prog="python -m trainers.pretrain_dit", description=__doc__)
    parser.add_argument("--data", choices=["digits"], default="digits")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema-decay", type=float, default=0.999)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--patch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    return parser


def lr_factor(step: int, num_steps: int) -> float:
    """Learning rate of optimizer step ``step`` (from 0) over its peak: trapezoid."""
    decay_steps = max(1.0, DECAY_SHARE * num_steps)
    return min(1.0, (step + 1) / WARMUP_STEPS, (num_steps - step) / decay_steps)


def pretrain(args: argparse.Namespace) -> tuple[DiT, float]:
    """Train by the parsed arguments.

    Returns:
        The EMA network, and the mean loss of the last tenth of the steps.
    """
    source = load_digits()
    channels, side = source.images.shape[1:3]
    torch.manual_seed(args.seed)  # only for the initial weights; a program of its own
    net = DiT(
        input_size=side,
        patch_size=args.patch_size,
        in_channels=channels,
        hidden_size=args.hidden_size,
        depth=args.depth,
        num_heads=args.num_heads,
        num_classes=source.num_classes or 0,
        learn_sigma=False,
    )
    process = DDPMProcess()
    generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.AdamW(net.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, args.steps)
    )
    ema = start_ema(net, args.ema_decay)
    started, losses = time.monotonic(), []
    for step in range(1, args.steps + 1):
        x0, labels = source.batch(args.batch_size, generator)
        assert labels is not None
        t = process.draw_times(len(x0), generator)
        noise = torch.randn(x0.shape, generator=generator)
        dropped = torch.rand(len(x0), generator=generator) < LABEL_DROPOUT
        labels = torch.where(dropped, net.num_classes or 0, labels)
        prediction = net(process.q_sample(x0, t, noise), t, labels, exit_depth=args.depth)
        loss = mse(prediction, noise).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        ema.update_parameters(net)
        losses.append(loss.item())
        if step % 200 == 0 or step == args.steps:
            recent = losses[-200:]
            print(
                f"step {step}/{args.steps}  loss {sum(recent) / len(recent):.4f}  "
                f"{time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    tail = losses[-max(1, args.steps // 10) :]
    averaged = averaged_net(ema)
    assert isinstance(averaged, DiT)
    return averaged, sum(tail) / len(tail)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write the weights."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    net, loss = pretrain(args)
    metadata = {
        "command": _command(args, arguments),
        "data": args.data,
        "weights": f"EMA {args.ema_decay}",
        "steps": str(args.steps),
        "seed": str(args.seed),
        "final_loss": f"{loss:.4f}",
        "torch": torch.__version__,
    }
    save_weights(net, args.output, metadata)
    print(f"{args.output}: loss {loss:.4f} over the last tenth of {args.steps} steps")
    return 0


def _command(args: argparse.Namespace, arguments: Sequence[str]) -> str:
    """The command as others may know it: without the folder of the output."""
    words = [args.output.name if word == str(args.output) else word for word in arguments]
    return f"python -m trainers.pretrain_dit {shlex.join(words)}"


if __name__ == "__main__":
    raise SystemExit(main())
