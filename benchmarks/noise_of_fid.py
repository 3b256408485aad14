"""How much FID varies with the evaluation seed, and how much common noise helps a comparison.

    python benchmarks/noise_of_fid.py digits_dit --seeds 5 --num-samples 1000 [--json F.json]

No fine-tune: the pretrained weights at full depth and at a second schedule.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from schedsearch.backbones.checkpoint import load_backbone_from
from schedsearch.backbones.guidance import learns_variance
from schedsearch.config import read_settings
from schedsearch.data.loading import load_source
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.features import build_extractor
from schedsearch.evaluation.quality import measure_quality
from schedsearch.evaluation.reference import compute_reference
from schedsearch.hand_made import preset_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="?", default="digits_dit")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--num-samples", type=int, help="default: the space's")
    parser.add_argument("--schedule", default="D2-DiT", help="preset to compare with full depth")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    settings = read_settings(args.space)
    num_samples = args.num_samples or settings.evaluation.num_samples
    net = load_backbone_from(settings.backbone, args.device)
    solver = build_solver(
        settings.solver,
        build_process(settings.diffusion),
        learned_variance=learns_variance(net),
    )
    extractor = build_extractor(
        settings.evaluation.features, settings.evaluation.features_path, args.device
    )
    reference = compute_reference(load_source(settings.data, net.in_shape), extractor)
    found = {
        name: [
            measure_quality(
                net,
                preset_for(name, net.num_exit_blocks, min_depth=settings.space.min_depth),
                solver,
                seed=seed,
                num_samples=num_samples,
                cfg_scale=settings.solver.cfg_scale,
                batch_size=settings.evaluation.batch_size,
                extractor=extractor,
                reference=reference,
            )
            for seed in range(args.seeds)
        ]
        for name in ("full", args.schedule)
    }
    full, other = (np.array([quality.fid for quality in found[name]]) for name in found)
    summary = {
        "space": args.space,
        "num_samples": num_samples,
        "fid": {name: [q.fid for q in qualities] for name, qualities in found.items()},
        "kid": {name: [q.kid for q in qualities] for name, qualities in found.items()},
        "sample_std": {n: [q.sample_std for q in qualities] for n, qualities in found.items()},
        "class_accuracy": {n: [q.class_accuracy for q in found[n]] for n in found},
        "reference_pixel_std": reference.pixel_std,
        "std_full": float(full.std(ddof=1)),
        "std_other": float(other.std(ddof=1)),
        "std_paired_difference": float((other - full).std(ddof=1)),
        "std_unpaired_difference": float(np.hypot(full.std(ddof=1), other.std(ddof=1))),
    }
    for name, qualities in found.items():
        print(
            f"{name:<8} FID {np.mean([q.fid for q in qualities]):.3f} "
            f"+- {np.std([q.fid for q in qualities], ddof=1):.3f}  "
            f"KID {np.mean([q.kid for q in qualities]):.4f}  "
            f"pixel std {np.mean([q.sample_std for q in qualities]):.3f} "
            f"(real {reference.pixel_std:.3f})  "
            f"class accuracy {qualities[0].class_accuracy}"
        )
    print(
        f"std of the difference: {summary['std_paired_difference']:.3f} with common noise, "
        f"{summary['std_unpaired_difference']:.3f} without ({args.seeds} seeds, n={num_samples})"
    )
    if args.json:
        args.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
