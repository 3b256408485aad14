"""Shared parts of the pretraining commands: flags, saved state, output file."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schedsearch.backbones.devices import require_device
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.config import read_sections
from schedsearch.data.sources import ImageSource
from schedsearch.diffusion.process import build_process
from schedsearch.exceptions import ConfigError, ExitCode, SchedSearchError
from schedsearch.settings import DiffusionSettings
from trainers.pretraining.data import add_data_arguments, open_source
from trainers.pretraining.loop import Plan, Pretraining, train

STATE_SUFFIX = ".state"
"""Suffix of the output's name for the saved state of an interrupted training."""

_OFF_RECORD = frozenset(
    {
        "output", "half", "path", "vae", "max_damaged", "device", "threads", "save_minutes",
        "shape_flags",
    }
)  # fmt: skip
"""Arguments that may change between two starts; the data's digest is compared instead."""

DIFFUSION_FLAGS = ("process", "betas", "prediction", "time", "times", "shift")
"""Flags that are keys of the section ``diffusion``."""

BuildNet = Callable[[tuple[int, int, int], int, bool], nn.Module]
"""Builds a network from shape (C, H, W), number of classes, and "no class" label."""


def add_common_arguments(
    parser: argparse.ArgumentParser, *, size_flag: str, channels_flag: str, defaults: Plan
) -> None:
    """Add the flags of data, diffusion and training.

    Args:
        parser: The command's parser.
        size_flag: Official name of the side of an image, for example ``--img-size``.
        channels_flag: Official name of the number of channels.
        defaults: Default settings.
    """
    add_data_arguments(parser, size_flag=size_flag, channels_flag=channels_flag)

    diffusion = parser.add_argument_group("diffusion")
    diffusion.add_argument("--process", choices=["ddpm", "vp", "flow"], help="default: by --betas")
    diffusion.add_argument("--betas", choices=["linear", "cosine", "vp"], help="default: linear")
    diffusion.add_argument(
        "--prediction",
        choices=["eps", "v", "x0", "velocity"],
        help="default: eps, or velocity with --process flow",
    )
    diffusion.add_argument(
        "--time",
        choices=["sigma", "sigma1000", "sit"],
        help="how the network is fed the noise level; with --process flow only, and required",
    )
    diffusion.add_argument("--times", choices=["uniform", "logit_normal"], default="uniform")
    diffusion.add_argument("--shift", type=float, default=1.0, help="of the training times")

    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=int, default=defaults.steps)
    training.add_argument("--seed", type=int, default=defaults.seed)
    training.add_argument("--batch-size", type=int, default=defaults.batch_size)
    training.add_argument("--lr", type=float, default=defaults.lr, help="peak learning rate")
    training.add_argument("--adam-betas", type=float, nargs=2, default=defaults.adam_betas)
    training.add_argument("--weight-decay", type=float, default=defaults.weight_decay)
    training.add_argument("--warmup-steps", type=int, default=defaults.warmup_steps)
    training.add_argument(
        "--decay-share",
        type=float,
        default=defaults.decay_share,
        help="share of the steps, at the end, in which the learning rate decays to 0",
    )
    training.add_argument("--ema-decay", type=float, default=defaults.ema_decay)
    training.add_argument(
        "--label-dropout",
        type=float,
        default=defaults.label_dropout,
        help="share of labels replaced by 'no class'; 0 builds a network without that label",
    )
    training.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")

    place = parser.add_argument_group("output and machine")
    place.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    place.add_argument("--half", action="store_true", help="write the weights in float16")
    place.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    place.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    place.add_argument(
        "--save-minutes",
        type=float,
        default=2.0,
        help=f"minutes between two states in OUTPUT{STATE_SUFFIX}; the same command resumes there",
    )


def run_command(
    args: argparse.Namespace, arguments: Sequence[str], module: str, build: BuildNet
) -> int:
    """Train by the parsed arguments and write the EMA weights.

    Args:
        args: Parsed arguments.
        arguments: The unparsed arguments, for the header of the file.
        module: Name of the command's module.
        build: Builds the network; ``--seed`` sets its initial weights.

    Returns:
        The exit code: 0, 2 for wrong arguments or data, 5 if the disk is full or not writable,
        130 if interrupted.
    """
    try:
        run, fingerprint = _start(args, build)
        state_file = args.output.with_name(args.output.name + STATE_SUFFIX)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        train(
            run,
            state_file,
            {**_record(args), "data_fingerprint": fingerprint},
            save_seconds=60.0 * args.save_minutes,
            note=_note,
        )
        loss = run.mean_loss(max(1, args.steps // 10))
        net = run.averaged().half() if args.half else run.averaged()
        save_weights(net, args.output, _metadata(args, arguments, module, loss))
        state_file.unlink(missing_ok=True)
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except OSError as error:
        print(f"error: {error}; fix this and repeat the command to resume", file=sys.stderr)
        return int(ExitCode.STORAGE)
    except KeyboardInterrupt:
        print("interrupted; repeat the command to resume from the saved state", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    print(f"{args.output}: loss {loss:.4f} over the last tenth of {args.steps} steps")
    return int(ExitCode.DONE)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _start(args: argparse.Namespace, build: BuildNet) -> tuple[Pretraining, str]:
    """Prepare the training, and return it with the digest of its data."""
    plan, diffusion = _plan(args), diffusion_of(args)
    device = require_device(args.device)
    torch.set_num_threads(args.threads)
    source, shape = open_source(args, device)
    for note in source.verify():
        _note(note)
    torch.manual_seed(args.seed)  # NOTE: for the initial weights only
    try:
        net = build(shape, _num_classes(args, source), args.label_dropout > 0)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    process = build_process(diffusion)
    return Pretraining(net.to(device), source, process, plan), source.fingerprint


def diffusion_of(args: argparse.Namespace) -> DiffusionSettings:
    """Return the section ``diffusion`` that the flags mean.

    Raises:
        InvalidFileError: If they contradict each other.
    """
    given = {key: getattr(args, key) for key in DIFFUSION_FLAGS}
    stated = {key: value for key, value in given.items() if value is not None}
    section: DiffusionSettings = read_sections({"diffusion": stated})["diffusion"]
    return section


def _plan(args: argparse.Namespace) -> Plan:
    # Check the ranges.
    for name, valid, rule in (
        ("steps", args.steps >= 1, "at least 1"),
        ("batch_size", args.batch_size >= 1, "at least 1"),
        ("lr", args.lr > 0, "above 0"),
        ("adam_betas", all(0 <= beta < 1 for beta in args.adam_betas), "two numbers in [0, 1)"),
        ("weight_decay", args.weight_decay >= 0, "at least 0"),
        ("warmup_steps", args.warmup_steps >= 0, "at least 0"),
        ("decay_share", 0 <= args.decay_share <= 1, "in [0, 1]"),
        ("ema_decay", 0 <= args.ema_decay < 1, "in [0, 1)"),
        ("label_dropout", 0 <= args.label_dropout < 1, "in [0, 1)"),
        ("save_minutes", args.save_minutes >= 0, "at least 0"),
        ("threads", args.threads >= 1, "at least 1"),
    ):
        if not valid:
            flag = "--" + name.replace("_", "-")
            value = getattr(args, name)
            shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
            raise ConfigError(f"{flag} must be {rule}, got {shown}.")
    # Build the plan.
    return Plan(
        steps=args.steps,
        batch_size=args.batch_size,
        lr=args.lr,
        adam_betas=tuple(args.adam_betas),
        weight_decay=args.weight_decay,
        warmup_steps=args.warmup_steps,
        decay_share=args.decay_share,
        ema_decay=args.ema_decay,
        label_dropout=args.label_dropout,
        precision=args.precision,
        seed=args.seed,
    )


def _num_classes(args: argparse.Namespace, source: ImageSource) -> int:
    """Return the number of classes of the network; 0 if unconditional."""
    return 0 if args.unconditional else source.num_classes or 0


def _record(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that must agree with a saved state, as plain values."""
    return {
        name: list(value) if isinstance(value, tuple | list) else value
        for name, value in vars(args).items()
        if name not in _OFF_RECORD
    }


def _metadata(
    args: argparse.Namespace, arguments: Sequence[str], module: str, loss: float
) -> dict[str, str]:
    words = [_without_folders(word) for word in arguments]
    return {
        "command": f"python -m {module} {shlex.join(words)}",
        "data": args.data,
        "diffusion": _shown(diffusion_of(args)),
        "weights": f"EMA {args.ema_decay}",
        "steps": str(args.steps),
        "seed": str(args.seed),
        "final_loss": f"{loss:.4f}",
        "torch": torch.__version__,
    }


def _shown(diffusion: DiffusionSettings) -> str:
    """The process and, with flow matching, the law of its training times."""
    keys = diffusion.to_dict()
    if diffusion.process == "flow":
        keys |= {"times": diffusion.times, "shift": diffusion.shift}
    return ", ".join(f"{key} {value}" for key, value in keys.items())


def _without_folders(word: str) -> str:
    """Reduce a path in the command to its name, so that no folder is published."""
    # NOTE: Only flags with paths contain a slash.
    flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{Path(value).name}" if "/" in value else word
