"""Tables of measured rows, kept in a JSON file and shown on a Markdown page.

A table that the file holds is not measured again. All tables of one file come from one machine
and one torch, so that rows compare.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from schedsearch.evaluation.latency_protocol import device_name
from schedsearch.files.atomic import write_text

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one measurement beside the papers' numbers."""

    title: str
    note: str
    """What was measured, and how."""
    columns: dict[str, str]
    """Key of a row -> format, as in ``format(value, ...)``; ``""`` for text."""
    rows: Sequence[Row]

    def to_markdown(self) -> str:
        """A section of a Markdown page."""
        lines = [f"## {self.title}", "", self.note, "", _line(self.columns)]
        lines.append(_line(["---" if not how else "---:" for how in self.columns.values()]))
        for row in self.rows:
            lines.append(_line([_shown(row[key], how) for key, how in self.columns.items()]))
        return "\n".join([*lines, ""])


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(value: Any, how: str) -> str:
    if value is None:
        return "-"
    return str(value) if not how else format(value, how)


@dataclass(kw_only=True)
class ResultFile:
    """The tables measured so far.

    Args:
        path: The JSON file; the page lies beside it.
        title: Heading of the page.
        introduction: What the page answers, and its limits.
        machine: Device and versions that measured.
        commands: The commands to show on the page.
        tables: By key.
        left_out: Why a table is missing, by key.
    """

    path: Path
    title: str
    introduction: str
    machine: dict[str, str]
    commands: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, title: str, introduction: str) -> Self:
        """The tables of a file that exists."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            path=path,
            title=title,
            introduction=introduction,
            machine=data["machine"],
            commands=data["commands"],
            tables={key: Table(**table) for key, table in data["tables"].items()},
            left_out=data["left_out"],
        )

    @classmethod
    def open(
        cls,
        path: Path,
        title: str,
        introduction: str,
        *,
        device: torch.device,
        command: str,
        fresh: Collection[str] = (),
    ) -> Self:
        """The tables of a file that may not exist yet, to add more.

        Args:
            path: The JSON file.
            title: Heading of the page.
            introduction: What the page answers, and its limits.
            device: Device to measure on.
            command: Command to show on the page, with the earlier ones of the file.
            fresh: Parts to measure again, by the beginning of their keys.

        Raises:
            SystemExit: If the file was measured on another machine or with another torch.
        """
        machine = {
            "device": device_name(device),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        file = cls(path=path, title=title, introduction=introduction, machine=machine)
        if path.exists():
            kept = cls.read(path, title, introduction)
            tables = {k: t for k, t in kept.tables.items() if k.partition("/")[0] not in fresh}
            if tables and kept.machine != machine:
                raise SystemExit(
                    f"{path} was measured on {kept.machine}, but this is {machine}: "
                    "rows would not compare. Name another --json, or measure all parts --fresh."
                )
            file.commands = kept.commands if tables else []
            file.tables = tables
        if command not in file.commands:
            file.commands.append(command)
        return file

    def measure(self, key: str, measurement: Callable[[], Table]) -> bool:
        """Measure a table unless the file holds it, keep it, and print it.

        Returns:
            Whether it was measured now.
        """
        is_new = key not in self.tables
        if is_new:
            self.tables[key] = measurement()
            self.write()
        print(self.tables[key].to_markdown(), flush=True)
        return is_new

    def leave_out(self, key: str, reason: str) -> None:
        """Say on the page why a table is missing."""
        if key not in self.tables:
            self.left_out[key] = reason
            print(f"{key}: left out: {reason}\n", flush=True)

    def write(self) -> None:
        """Write the JSON file and the page."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "commands": self.commands,
            "machine": self.machine,
            "left_out": self.left_out,
            "tables": {key: asdict(table) for key, table in self.tables.items()},
        }
        write_text(self.path, json.dumps(data, indent=1) + "\n")
        write_text(self.path.with_suffix(".md"), self.to_markdown())

    def to_markdown(self) -> str:
        """The page."""
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        commands = "\n".join(["```bash", *self.commands, "```"])
        head = f"# {self.title}\n\n{self.introduction}\n\n{commands}\n\nMeasured on: {machine}.\n"
        pages = [head, *(table.to_markdown() for table in self.tables.values())]
        if self.left_out:
            reasons = [f"- {key}: {reason}" for key, reason in self.left_out.items()]
            pages.append("\n".join(["## Left out", "", *reasons, ""]))
        return "\n".join(pages)
