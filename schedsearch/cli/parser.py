"""An argument parser that reports a mistake in one line: rule, value and remedy."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


class LineParser(argparse.ArgumentParser):
    """Parser of the program and of each command; its errors have no usage lines."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2; without a remedy it names the help."""
        text = " ".join(message.split())
        remedy = "" if text.endswith(("?", ".")) else f"; see `{self.prog} --help`."
        self.exit(2, f"{self.prog}: {text}{remedy}\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse what is not declared.

        The base class leaves the rest of a command to the program's parser, which does not know
        the options of the command.
        """
        # NOTE: first, since a misspelt option often leaves a required one missing.
        if self._subparsers is None:
            self._refuse(_long_options(args))
        found, extra = super().parse_known_args(args, namespace)
        self._refuse(word for word in extra if word.startswith("-"))
        if extra:
            self.error(f"takes no further argument, got {' '.join(extra)!r}")
        return found, extra

    def _refuse(self, options: Iterable[str]) -> None:
        """Refuse the first option that is not declared."""
        from schedsearch.files.problems import nearest

        known = self._option_string_actions
        for option in options:
            if (name := option.partition("=")[0]) not in known:
                remedy = nearest(name, known)
                self.error(f"unknown option {name!r}" + (f"; {remedy}" if remedy else ""))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is None or value in choices:
            return
        from schedsearch.files.problems import nearest, shown

        names = list(map(str, choices))
        rule = f"must be one of {', '.join(names)}; got {shown(value)}"
        remedy = nearest(value, names)
        raise argparse.ArgumentError(action, f"{rule}; {remedy}" if remedy else rule)


def _long_options(words: Sequence[str]) -> Iterable[str]:
    """Words that can only be options; a word with a blank is a value."""
    for word in words:
        if word == "--":
            return
        if word.startswith("--") and " " not in word:
            yield word
