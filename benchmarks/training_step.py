"""Time of our training step against a step that runs every block for every sample.

Ours runs a block only on the samples that have not exited yet. The two steps alternate, so that a
slow moment of the machine hits both. The median ratio is printed beside the ideal one, the share
of blocks that the schedule runs.

    python benchmarks/training_step.py                                # the digits DiT, CPU
    python benchmarks/training_step.py --model DiT-B/2 --device cuda --batch 32 --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.layers import unpatchify
from schedsearch.backbones.registry import build_backbone
from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.diffusion.losses import mse
from schedsearch.schedules.hand_made import preset_for
from schedsearch.settings import BackboneSettings

SCHEDULES = ("D2-DiT", "D3-DiT", "D7-DiT")
DIGITS = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 64,
    "depth": 10,
    "num_heads": 4,
    "num_classes": 10,
    "learn_sigma": False,
}


def run_every_block_and_pick(
    net: DiT, x: Tensor, t: Tensor, y: Tensor, exit_depth: Tensor
) -> Tensor:
    """Run all blocks on all samples, then take each sample's depth."""
    tokens = net.x_embedder(x) + net.pos_embed
    c = net.t_embedder(t) + net.y_embedder(y)
    after = []
    for block in net.blocks:
        tokens = block(tokens, c)
        after.append(tokens)
    picked = torch.stack(after)[exit_depth - 1, torch.arange(len(x), device=x.device)]
    return unpatchify(net.final_layer(picked, c), net.patch_size, net.out_channels)


def build_net(model: str, device: str) -> DiT:
    settings = (
        BackboneSettings(family="dit", config=DIGITS)
        if model == "digits"
        else BackboneSettings(name=model, config={"learn_sigma": False})
    )
    net = build_backbone(settings).to(device)
    assert isinstance(net, DiT)
    return net


def time_ms(step: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - started)


def measure(net: DiT, name: str, batch: int, repeats: int, device: str) -> dict[str, object]:
    """Time both steps, forward to optimizer, on times spread evenly over the clock."""
    schedule = preset_for(name, net.num_exit_blocks)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-5, fused=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *net.in_shape, generator=generator).to(device)
    noise = torch.randn(x.shape, generator=generator).to(device)
    t = ((torch.arange(batch) + 0.5) * 1000 / batch).long()
    t = t[torch.randperm(batch, generator=generator)]
    depths = schedule.depths_at(t)  # on the CPU, as in the trainer
    y = (t % (net.num_classes or 1)).to(device)
    t_device, depths_device = t.to(device), depths.to(device)

    def finish(prediction: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        mse(prediction, noise).mean().backward()
        optimizer.step()

    def ours() -> None:
        finish(net(x, t_device, y, exit_depth=depths))

    def reference() -> None:
        finish(run_every_block_and_pick(net, x, t_device, y, depths_device))

    for step in (reference, ours):  # warm-up
        time_ms(step, device)
    pairs = [(time_ms(reference, device), time_ms(ours, device)) for _ in range(repeats)]
    return {
        "schedule": name,
        "depths": list(schedule.depths),
        "reference_ms": statistics.median(a for a, _ in pairs),
        "ours_ms": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ideal": float(depths.double().mean()) / net.num_exit_blocks,
    }


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="digits", choices=["digits", *REGISTRY])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main() -> None:
    """Time both steps for every schedule and print the ratios."""
    args = build_parser().parse_args()
    torch.set_num_threads(args.threads)
    net = build_net(args.model, args.device)
    rows = [measure(net, name, args.batch, args.repeats, args.device) for name in SCHEDULES]
    if args.json:
        json.dump({"settings": vars(args), "torch": torch.__version__, "rows": rows}, sys.stdout)
        print()
        return
    print(f"{'schedule':<10}{'every block':>14}{'ours':>12}{'ratio':>9}{'ideal':>9}")
    for row in rows:
        print(
            f"{row['schedule']:<10}{row['reference_ms']:>11.1f} ms{row['ours_ms']:>9.1f} ms"
            f"{row['ratio']:>9.3f}{row['ideal']:>9.3f}"
        )


if __name__ == "__main__":
    main()
