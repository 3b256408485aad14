"""The parser, the table of commands, and what an error looks like to the user.

``schedsearch --help`` stays below half a second: a command's module is imported only when the
command is chosen, and its heavy imports only when it acts.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from schedsearch.cli.parser import LineParser
from schedsearch.cli.signals import stopping_with
from schedsearch.cli.streams import safe_streams
from schedsearch.exceptions import ExitCode, SchedSearchError
from schedsearch.memory import is_out_of_memory, reason_of
from schedsearch.version import __version__

INTERNAL_ERROR = 1
"""Exit code of a bug: what the interpreter itself uses for an unhandled exception."""

BROKEN_PIPE = 141
"""Exit code after the reader of a pipe went away: 128 + SIGPIPE."""

LONGEST_LINE = 2000
"""Characters of a line of a message."""

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand and where its code lives."""

    name: str
    help: str
    module: str
    """Module inside ``schedsearch.cli.commands``."""
    arguments: str = "add_arguments"
    """Function that declares the arguments on a parser."""
    action: str = "take_action"
    """Function that does the work and returns the exit code."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Import the command's module and declare its arguments."""
        cast(Callable[[argparse.ArgumentParser], None], self._load(self.arguments))(parser)

    def take_action(self, args: argparse.Namespace) -> int:
        """Do the work."""
        return cast(Callable[[argparse.Namespace], int], self._load(self.action))(args)

    def _load(self, name: str) -> object:
        return getattr(importlib.import_module(f"schedsearch.cli.commands.{self.module}"), name)


COMMANDS: tuple[Command, ...] = (
    Command("run", "search for exit schedules, or resume a search", "run"),
    Command("check", "validate a search space file and list all errors", "check"),
    Command(
        "status",
        "show how far a run is",
        "inspect",
        arguments="add_status_arguments",
        action="show_status",
    ),
    Command(
        "front",
        "show the Pareto front of a run",
        "inspect",
        arguments="add_front_arguments",
        action="show_front",
    ),
    Command(
        "pick",
        "choose one trial off the front",
        "inspect",
        arguments="add_pick_arguments",
        action="show_pick",
    ),
    Command("recover", "rebuild the study of a run from results.jsonl", "recover"),
    Command("export", "write a schedule or method as a file, and its weights", "export"),
    Command(
        "compare", "measure other methods beside the schedules, or show finished runs", "compare"
    ),
    Command("plan", "calibrate, choose and measure plans, which need no training", "plan"),
    Command("convert", "check weights and write them in another layout", "convert"),
    Command("sample", "sample images with an exit schedule or another method", "sample"),
    Command("latency", "measure the latency of schedules", "latency"),
    Command(
        "profile", "measure the latency and error tables of a space, without trials", "profile"
    ),
    Command("dashboard", "serve the Optuna dashboard of a run", "dashboard"),
    Command("presets", "show the papers' hand-made schedules", "presets"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with safe_streams():
        try:
            with stopping_with(""):
                return _run(arguments)
        except KeyboardInterrupt as stop:
            advice = f". {stop}" if str(stop) else ""
            message = f"schedsearch: interrupted{advice}"
            return _fail(message, int(ExitCode.INTERRUPTED), debug="--debug" in arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        args = _build_parser(arguments).parse_args(arguments)
    except SystemExit as stop:  # argparse ends --help, --version and its errors this way
        return stop.code if isinstance(stop.code, int) else 0
    except OSError as error:  # from the check of a path that an option names
        return _fail(*_last_line(error, debug=False), debug=False)
    _configure_logging(verbose=args.verbose, quiet=args.quiet, debug=args.debug)
    try:
        code = _command(args.command).take_action(args)
        sys.stdout.flush()  # a reader that went away is noticed here, not at exit
    except SchedSearchError as error:
        # Mistakes in a file begin with its name and line, as editors expect.
        many = hasattr(error, "problems")
        message = str(error) if many else f"schedsearch: {error}".replace("\n", "\\n")
        return _fail(message, int(error.exit_code), debug=args.debug)
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit, which would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last resort, so that users see one line
        return _fail(*_last_line(error, debug=args.debug), debug=args.debug)
    return code


def _last_line(error: Exception, *, debug: bool) -> tuple[str, int]:
    """Line and exit code of an error that no command turned into its own."""
    if is_out_of_memory(error):
        text = f"out of memory: {reason_of(error)} Lower batch sizes or numbers of images."
        return f"schedsearch: {text}", int(ExitCode.CONFIG)
    if isinstance(error, UnicodeError):
        text = f"text that is not UTF-8: {' '.join(str(error).split())}. Save the file as UTF-8."
        return f"schedsearch: {text}", int(ExitCode.CONFIG)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"schedsearch: disk: {error}", int(ExitCode.STORAGE)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        text = "too many open files. Raise the limit (`ulimit -n`), or use fewer workers."
        return f"schedsearch: {text}", int(ExitCode.STORAGE)
    if isinstance(error, FileNotFoundError) and error.filename is None:
        text = "the current folder is gone. Change to another one."
        return f"schedsearch: {text}", int(ExitCode.CONFIG)
    if isinstance(error, OSError) and error.filename is not None:
        name, reason = str(error.filename), error.strerror or type(error).__name__
        name = name if len(name) <= 200 else f"{name[:100]}..."
        return f"schedsearch: Cannot use {name}: {reason}.", int(ExitCode.CONFIG)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    advice = "" if debug else "; run again with --debug for the traceback"
    return f"schedsearch: internal error: {text}{advice}", INTERNAL_ERROR


def entry_point() -> None:
    """What the ``schedsearch`` script calls."""
    _find_modules_here()
    sys.exit(main())


def _find_modules_here() -> None:
    """Let a search space name classes in the current folder, as with ``python -m``.

    Last on the path, so that no file there can take the place of an installed module. Workers
    inherit the path; Ray hands its workers the driver's current folder by itself.
    """
    with suppress(OSError):  # the current folder is gone
        here = str(Path.cwd())
        if not sys.flags.safe_path and here not in sys.path:
            sys.path.append(here)


def _build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = LineParser(
        prog="schedsearch",
        description="Search for exit schedules of diffusion transformers: how many blocks run in "
        "each tenth of diffusion time.",
        epilog="Exit codes: 0 done, 1 a defect of the tool, 2 bad input, 3 some schedules failed, "
        "4 no result, 5 storage, disk or Ray, 124 time budget used up, 130 interrupted. "
        "After 5 and 130 the same command resumes, after 124 with a larger search.budget.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_common(parser, default=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # The common options take no value, so the first other word is the command.
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            allow_abbrev=False,
        )
        if command.name == chosen:
            command.add_arguments(sub)
            # Without a default, an option left out here keeps what stood before the command.
            _add_common(sub, default=argparse.SUPPRESS)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, default: object) -> None:
    common = parser.add_argument_group("common options")
    amount = common.add_mutually_exclusive_group()
    amount.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="say more on stderr"
    )
    amount.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="only warnings and errors"
    )
    common.add_argument(
        "--debug", action="store_true", default=default, help="show tracebacks and debug messages"
    )


def _command(name: str) -> Command:
    return next(command for command in COMMANDS if command.name == name)


def _configure_logging(*, verbose: bool, quiet: bool, debug: bool) -> None:
    """Send the messages of both packages to stderr; other libraries only warn."""
    level = logging.WARNING if quiet else logging.INFO
    if verbose or debug:
        level = logging.DEBUG
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    for package in ("schedsearch", "trainers"):
        logging.getLogger(package).setLevel(level)


def _fail(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc(file=sys.stderr)
    print("\n".join(map(_shortened, message.split("\n"))), file=sys.stderr)
    return code


def _shortened(line: str) -> str:
    """A line without its middle, where a value from a file makes it very long."""
    if len(line) <= LONGEST_LINE:
        return line
    begin, end = LONGEST_LINE * 3 // 4, LONGEST_LINE // 4
    return f"{line[:begin]} ... {line[-end:]}"
