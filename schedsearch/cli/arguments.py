"""Arguments that several commands share, and number types with readable errors."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.exceptions import ConfigError
from schedsearch.files.targets import check_target

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings

_log = logging.getLogger(__name__)


def add_space(parser: argparse.ArgumentParser) -> None:
    """The positional SPACE."""
    parser.add_argument(
        "space",
        metavar="SPACE",
        help="search space: a YAML file, or the name of one that ships, such as digits_dit",
    )


def add_overrides(parser: argparse._ActionsContainer) -> None:
    """``-o KEY=VALUE``, repeatable."""
    parser.add_argument(
        "-o",
        "--override",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="replace one key of the file, for example solver.num_steps=20; may be repeated; "
        "the value is YAML, and its paths are relative to the current folder",
    )


def add_space_and_output(parser: argparse.ArgumentParser, *, output_help: str) -> None:
    """SPACE, ``-o`` and ``--output``: what a command that measures a space begins with.

    Args:
        parser: Where to add them.
        output_help: What an existing run folder means to the command.
    """
    add_space(parser)
    add_overrides(parser)
    add_output(parser, output_help)


def add_output(parser: argparse._ActionsContainer, output_help: str) -> None:
    """``--output DIR``, the run folder; ``output_help`` says what an existing one means."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=output_folder,
        help=f"run folder (default: runs/NAME of the space); {output_help}",
    )


def add_cluster(parser: argparse._ActionsContainer) -> None:
    """``--address`` of a Ray cluster."""
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="a Ray cluster to join: HOST:PORT of its head node, or auto (default: this machine)",
    )


def space_and_output(args: argparse.Namespace) -> tuple[StudySettings, RunFolder]:
    """The search space and the run folder that :func:`add_space_and_output` asked for.

    Raises:
        ConfigError: If the space is not valid.
    """
    from schedsearch.config import read_settings
    from schedsearch.runs.folder import RunFolder

    settings = read_settings(args.space, args.overrides)
    return settings, RunFolder(Path(args.output or f"runs/{settings.name}"))


def announce_dry_run(settings: StudySettings) -> None:
    """Say what a dry run does, before its slow imports."""
    _log.info("Dry run of %s: loads the model and measures its latency.", settings.name)


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where to run (default: %(default)s)",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """The positional RUN."""
    parser.add_argument(
        "run", metavar="RUN", help="folder of a run, or the name of a run below runs/"
    )


def add_methods(parser: argparse.ArgumentParser) -> None:
    """``--methods``: the schedules of the search, or all methods of the folder."""
    parser.add_argument(
        "--methods",
        choices=("schedules", "all"),
        default="schedules",
        help="the search's schedules, or also what `compare` and `plan` measured "
        "(default: %(default)s)",
    )


def add_format(parser: argparse._ActionsContainer, *forms: str) -> None:
    """``--format``; the first form is the default."""
    parser.add_argument(
        "--format",
        choices=forms,
        default=forms[0],
        help="what to print on stdout (default: %(default)s)",
    )


def print_json(data: object) -> None:
    """Print plain data on stdout; NaN is refused, since it is no JSON."""
    print(json.dumps(data, indent=2, allow_nan=False))


def add_pick_rules(parser: argparse.ArgumentParser, *, with_trial: bool = False) -> None:
    """The rules that choose one trial off the front; exactly one is required.

    Args:
        parser: Where to add them.
        with_trial: Also offer ``--trial N`` and ``--method NAME``, which name it themselves.
    """
    rules = parser.add_argument_group("which trial (exactly one)")
    group = rules.add_mutually_exclusive_group(required=True)
    if with_trial:
        group.add_argument(
            "--trial", metavar="N", type=count_from_zero, help="this trial, on the front or not"
        )
        group.add_argument(
            "--method", metavar="NAME", help="this method of a comparison, such as deediff-0.75"
        )
    group.add_argument(
        "--knee",
        action="store_true",
        help="the trial where giving up more quality stops paying off",
    )
    group.add_argument(
        "--max-latency-ms",
        metavar="X",
        type=positive_number,
        help="the best FID at a latency of at most X ms per batch",
    )
    group.add_argument(
        "--max-fid", metavar="X", type=positive_number, help="the fastest with an FID of at most X"
    )
    group.add_argument(
        "--max-fid-increase",
        metavar="PCT",
        type=number_from_zero,
        help="the fastest whose FID is at most PCT %% above that of full depth",
    )


def output_file(*endings: str) -> Callable[[str], str]:
    """Type of an option that names a file to write; the file is checked before any work.

    Args:
        endings: How its name may end, such as ``.npz``.
    """

    def checked(text: str) -> str:
        try:
            check_target(Path(text), endings)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return checked


def output_folder(text: str) -> str:
    """A folder to write into, which need not exist."""
    path = Path(text).absolute()
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise argparse.ArgumentTypeError(
            f"Cannot make the folder {text}: {existing} is no folder. Choose another name."
        )
    return text


def count(text: str) -> int:
    """An integer >= 1."""
    return _integer(text, 1)


def thread_count(text: str) -> int:
    """An integer from 1 to 1024; torch crashes with more threads than there can be."""
    if (value := _integer(text, 1)) > 1024:
        raise argparse.ArgumentTypeError(f"expected at most 1024, got {text!r}")
    return value


def count_from_zero(text: str) -> int:
    """An integer >= 0."""
    return _integer(text, 0)


def positive_number(text: str) -> float:
    """A finite number > 0."""
    value = number_from_zero(text)
    if value == 0:
        raise argparse.ArgumentTypeError("expected a number > 0, got 0")
    return value


def number_from_zero(text: str) -> float:
    """A finite number >= 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"expected a number >= 0, got {text!r}")
    return value


def _integer(text: str, low: int) -> int:
    # int() also takes "1_0" and digits of other scripts; neither is meant here.
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= low):
        raise argparse.ArgumentTypeError(f"expected an integer >= {low}, got {text!r}")
    return int(text)
