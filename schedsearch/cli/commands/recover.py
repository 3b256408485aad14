"""``schedsearch recover``: rebuilds the study of a run from its record."""

from __future__ import annotations

import argparse

from schedsearch.cli.arguments import add_run
from schedsearch.cli.signals import stopping_with
from schedsearch.formatting import for_shell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``recover``."""
    add_run(parser)


def take_action(args: argparse.Namespace) -> int:
    """Rebuild, and say what was found damaged."""
    with stopping_with("Nothing was changed in the study; run the same command again."):
        return _recover(args.run, quiet=args.quiet)


def _recover(name: str, *, quiet: bool) -> int:
    import sys

    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.recover import ASIDE, recover_run

    def tell(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    folder = RunFolder.existing(name)
    found = recover_run(folder, tell)
    print(f"study rebuilt from {found.num_trials} trials of results.jsonl")
    for file, numbers in found.set_aside.items():
        lines = ", ".join(map(str, numbers))
        print(f"damaged lines of {file} moved to {file}{ASIDE}: {lines}")
    if found.restored:
        trials = ", ".join(map(str, found.restored))
        print(f"lines restored from the folders of trials: {trials}")
    if found.num_lost:
        print(
            f"lines of results.jsonl lost: {found.num_lost}; `schedsearch run` tries as many again"
        )
    print(f"Next: schedsearch status {for_shell(folder.shown)}; `schedsearch run` goes on.")
    return 0
