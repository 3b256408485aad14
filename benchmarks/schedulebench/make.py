"""Makes the tables; the same command resumes after a stop.

    python -m benchmarks.schedulebench.make digits --output DIR [--shard 0/2]
    python -m benchmarks.schedulebench.make uvit --output DIR [--shard 0/2]
    python -m benchmarks.schedulebench.make tables digits --output DIR
    python -m benchmarks.schedulebench.make pack digits --output DIR [--table FILE.npz]

Processes with different shards may share a folder. ``tables`` measures latency, error tables
and costs; ``pack`` writes the table that ships. With ``tables/uvit-shared.safetensors`` copied to
``DIR/shared.safetensors``, the rows of ``uvit`` need no pretraining.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from schedsearch.exceptions import ExitCode, SchedSearchError


def shard_of(text: str) -> tuple[int, int]:
    """``K/M`` as two numbers."""
    try:
        shard, num_shards = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not K/M, for example 0/2") from None
    if not 0 <= shard < num_shards:
        raise argparse.ArgumentTypeError(f"{text}: K counts from 0 and lies below M")
    return shard, num_shards


def build_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.schedulebench.make",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("digits", "286 schedules of the demo's DiT, each fine-tuned by itself"),
        ("uvit", "3,003 schedules of a U-ViT, from weights that all share"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--output", type=Path, required=True, help="folder of the rows")
        command.add_argument("--shard", type=shard_of, default=(0, 1), metavar="K/M")
        command.add_argument("--limit", type=int, help="rows to measure now (default: all)")
    for name, text in (
        ("tables", "latency, error tables and costs of a table, beside its rows"),
        ("pack", "rows and side tables -> the npz that ships"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("kind", choices=["digits", "uvit"])
        command.add_argument("--output", type=Path, required=True, help="folder of the rows")
        if name == "pack":
            command.add_argument("--table", type=Path, help="file (default: the one that ships)")
    return parser


def note(line: str) -> None:
    """A line of progress with the time."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is that of ``schedsearch``."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    try:
        _run(args)
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    return int(ExitCode.DONE)


def _run(args: argparse.Namespace) -> None:
    from benchmarks.schedulebench import digits, uvit

    module = {"digits": digits, "uvit": uvit}[getattr(args, "kind", args.command)]
    if args.command == "tables":
        module.make_tables(args.output, note)
    elif args.command == "pack":
        from benchmarks.schedulebench.pack import pack
        from benchmarks.schedulebench.tables import shipped

        table = pack(
            args.output,
            module.study(args.output),
            module.VARIANTS,
            module.sunk_cost(args.output),
        )
        path = args.table or shipped(args.kind)
        table.save(path)
        note(f"{path}: {len(table.depths)} schedules, {table.fid.shape[1]} seeds")
    else:
        module.make_rows(args.output, *args.shard, note, args.limit)


if __name__ == "__main__":
    raise SystemExit(main())
