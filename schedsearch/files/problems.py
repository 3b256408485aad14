"""Mistakes in a file: the place, the rule and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from schedsearch.exceptions import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys from the top of a file to a value; list items by their index."""

MAX_PROBLEMS = 100
"""Mistakes that are collected before reading ends."""

FROM_FOLDER = "a relative path counts from the folder of the file"
"""Remedy for a path in a file that leads nowhere."""

FROM_HERE = "a relative path counts from the current folder"
"""The same for a path on the command line or from Python."""

LONGEST_KEY = 80
"""Characters of a key in a message."""

Mistake = tuple[str, str, str | None]
"""A dotted key, the rule with the value that breaks it, and a remedy."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Printed as ``space.yaml:12:5: space.min_dpeth: unknown key; did you mean 'min_depth'?``.
    """

    file: str
    """The file as the user named it, or the option that the value came from."""
    line: int | None
    column: int | None
    key: str
    """Dotted key; empty for the file as a whole."""
    reason: str
    remedy: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}" + (f":{self.column}" if self.column is not None else "")
        parts = [place, self.key, self.reason] if self.key else [place, self.reason]
        return ": ".join(parts) + (f"; {self.remedy}" if self.remedy else "")


class InvalidFileError(ConfigError):
    """Every mistake of a file, one per line.

    Args:
        problems: The mistakes; reported in the order of their lines.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line or 0, p.column or 0)))
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InvalidFileError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)  # the default would pass the text to __init__


@dataclass(slots=True)
class Findings:
    """Collects the mistakes of one file and knows where its keys stand.

    Args:
        file: The file as the user named it.
        marks: Line and column of each key, counted from 1.
        overrides: Keys given on the command line, with the option as the user wrote it.
        from_here: Whether all relative paths count from the current folder.
    """

    file: str
    marks: Mapping[KeyPath, tuple[int, int]] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    from_here: bool = False

    def add(self, path: KeyPath, reason: str, remedy: str | None = None) -> None:
        """Record a mistake at ``path``, or at the nearest key above it in the file.

        Only the first mistake at a key is kept, because the others follow from it.

        Raises:
            InvalidFileError: If there are too many, since the file is something else then.
        """
        if path and any(problem.key == dotted(path) for problem in self.problems):
            return
        if len(self.problems) >= MAX_PROBLEMS:
            more = Problem(self.file, None, None, "", f"more than {MAX_PROBLEMS} mistakes", None)
            raise InvalidFileError([*self.problems, more])
        file, line, column = self._locate(path)
        if remedy == FROM_FOLDER and (self.from_here or file in self.overrides.values()):
            remedy = FROM_HERE
        self.problems.append(Problem(file, line, column, dotted(path), reason, remedy))

    def add_all(self, mistakes: Iterable[Mistake], path: KeyPath = ()) -> None:
        """Record mistakes whose keys count from ``path``."""
        for key, reason, remedy in mistakes:
            parts = [int(part) if part.isdecimal() else part for part in key.split(".")]
            self.add((*path, *parts) if key else path, reason, remedy)

    def touches(self, *paths: KeyPath) -> bool:
        """Whether a mistake was recorded at, above or below one of ``paths``."""
        keys = [dotted(path) for path in paths]
        return any(
            not p.key
            or any(p.key == k or _is_under(p.key, k) or _is_under(k, p.key) for k in keys)
            for p in self.problems
        )

    def drop_under(self, paths: Iterable[KeyPath]) -> None:
        """Forget the mistakes at or below some keys, because other values replace them."""
        keys = [dotted(path) for path in paths]
        self.problems = [
            p for p in self.problems if not any(p.key == k or _is_under(p.key, k) for k in keys)
        ]

    def raise_if_any(self) -> None:
        """End the reading with every mistake found so far.

        Raises:
            InvalidFileError: If there is one.
        """
        if self.problems:
            raise InvalidFileError(self.problems)

    def _locate(self, path: KeyPath) -> tuple[str, int | None, int | None]:
        for length in range(len(path), -1, -1):
            prefix = path[:length]
            for key, option in self.overrides.items():
                if length == len(path) and prefix not in self.marks and key[:length] == prefix:
                    return option, None, None  # the option created this section
            if prefix in self.overrides:
                return self.overrides[prefix], None, None
            if prefix in self.marks:
                return self.file, *self.marks[prefix]
        return self.file, None, None


def dotted(path: KeyPath) -> str:
    """A key path as people write it: ``warm_start[3]``, ``space.min_depth``."""
    text = ""
    for key in path:
        name = key if isinstance(key, int) else _one_line(str(key))
        text += f"[{name}]" if isinstance(key, int) else f".{name}" if text else str(name)
    return text


def _one_line(key: str) -> str:
    """A key without line ends, shortened for a message."""
    short = key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}..."
    return short.replace("\n", "\\n")


def nearest(word: object, known: Iterable[str]) -> str | None:
    """A remedy that names the most similar of ``known``, or None when none is similar."""
    matches = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"did you mean '{matches[0]}'?" if matches else None


def nearest_or_list(word: object, known: Sequence[str]) -> str:
    """A remedy that names the most similar of ``known``, or all of them."""
    return nearest(word, known) or f"known are {', '.join(known) or 'none'}"


def ended(advice: str) -> str:
    """Advice as the end of a sentence: with a full stop, unless it is a question."""
    return advice if advice.endswith("?") else f"{advice}."


def shown(value: object, limit: int = 60) -> str:
    """A value as it stands in YAML, shortened for a message."""
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _is_under(key: str, above: str) -> bool:
    return key.startswith((f"{above}.", f"{above}["))
