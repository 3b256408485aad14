"""Tables of measured rows: kept in a JSON file as soon as each is measured, rendered for people.

A table is the unit of resuming: what the file holds is not measured again. All tables of one
file come from one machine and one torch, so that rows compare.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from schedsearch.evaluation.latency import device_name
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


class ResultFile:
    """The tables measured so far, in a JSON file with a Markdown page beside it.

    Args:
        path: The JSON file; its tables are kept when it exists.
        device: Device that is measured on.
        command: Command to show on the page, with the earlier ones of the same file.
        fresh: Parts to measure again, by the beginning of their keys.

    Raises:
        SystemExit: If the file was measured on another machine or with another torch.
    """

    def __init__(
        self, path: Path, device: torch.device, command: str, *, fresh: Collection[str] = ()
    ) -> None:
        self.path = path
        self.machine = {
            "device": device_name(device),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        self.commands: list[str] = []
        self.tables: dict[str, Table] = {}
        self.left_out: dict[str, str] = {}
        if path.exists():
            data = json.loads(path.read_text(encoding="utf-8"))
            kept = {k: t for k, t in data["tables"].items() if k.partition("/")[0] not in fresh}
            if kept and data["machine"] != self.machine:
                raise SystemExit(
                    f"{path} was measured on {data['machine']}, but this is {self.machine}: "
                    "rows would not compare. Name another --json, or measure all parts --fresh."
                )
            self.commands = data["commands"] if kept else []
            self.tables = {key: Table(**table) for key, table in kept.items()}
        if command not in self.commands:
            self.commands.append(command)

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
        """Say on the page why something is missing."""
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
        commands = "\n".join(["```", *self.commands, "```"])
        head = f"# Paper tables\n\n{commands}\n\n{machine}\n"
        pages = [head, *(table.to_markdown() for table in self.tables.values())]
        if self.left_out:
            reasons = [f"- {key}: {reason}" for key, reason in self.left_out.items()]
            pages.append("\n".join(["## Left out", "", *reasons, ""]))
        return "\n".join(pages)
