"""Tables of a comparison: every method with its quality, its time and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from schedsearch.formatting import duration, fid_title, for_shell, plus_minus, rounded
from schedsearch.report.disagreements import disagreements
from schedsearch.report.plan_lines import plan_lines
from schedsearch.settings.rows import FULL

if TYPE_CHECKING:
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.methods.joined import JoinedMethods
    from schedsearch.runs.methods.results import MethodResults
    from schedsearch.statistics.paired import PairedDifference

    Methods = MethodResults | JoinedMethods

_STYLES = {"better": "green", "no difference": "", "worse": "red"}

RUN_WIDTH = 10
"""Columns of a run's name, below which it is not squeezed."""


def methods_table(results: Methods, shown: Sequence[MethodEntry] | None = None) -> Table:
    """Methods by time, at most 100 columns wide. MACs only of a single run."""
    table = Table(
        title=f"Methods of {results.title}, by time",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="\n".join(_legend(results)),
    )
    runs = [run for run in results.parts if len(results.parts) > 1]
    if runs:
        widest = max(map(len, runs))
        table.add_column("run", overflow="fold", min_width=min(widest, RUN_WIDTH))
    table.add_column("method", no_wrap=True)
    for title in ("time", "blocks", "MACs", "FID", "FID - full", "auditor", "one-off"):
        if title == "MACs" and runs:  # its place goes to the runs
            continue
        table.add_column(title, justify="right", no_wrap=True)
    full, num_samples = _full_by_run(results), _num_samples(results)
    for entry in results.all() if shown is None else shown:
        difference = _over(full[entry.run], entry)
        table.add_row(
            *([entry.run] if runs else []),
            entry.name,
            time_of(entry),
            "-" if entry.share is None else f"{entry.share:.0%}",
            *([] if runs else [macs_of(entry)]),
            fid_of(entry, num_samples),
            Text(_difference(difference), style=_style(difference)),
            "-" if entry.audit_fid is None else rounded(entry.audit_fid),
            cost_of(entry),
        )
    for run, part in results.parts.items() if shown is None else ():
        for record in part.failed:
            name = [run, record.name] if runs else [record.name]
            table.add_row(*name, Text("failed", style="red"))
    return table


def methods_markdown(results: Methods) -> str:
    """The same as markdown, with all cost terms."""
    full, num_samples = _full_by_run(results), _num_samples(results)
    has_runs = len(results.parts) > 1
    titles = [
        "method", "time / full", "blocks", "MACs / full", _fid_title(results), "FID - full",
        "auditor", "pixel std", "nearest", "near copies", "extra parameters",
        "held, kB per image", "training samples", "one-off, CPU-s",
    ]  # fmt: skip
    titles = ["run", *titles] if has_runs else titles
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for entry in results.all():
        record = entry.first if entry.records else None
        cells = [
            *([entry.run] if has_runs else []),
            entry.name,
            time_of(entry),
            "-" if entry.share is None else f"{entry.share:.2f}",
            macs_of(entry),
            fid_of(entry, num_samples),
            _difference(_over(full[entry.run], entry)),
            "-" if entry.audit_fid is None else f"{entry.audit_fid:.3f}",
            *_judges(entry),
            "-" if record is None else f"{record.extra_parameters:,}",
            "-" if record is None else f"{record.held_bytes / 1000:.1f}",
            "-" if record is None else f"{record.training_samples:,}",
            "-" if record is None else f"{_seconds(entry):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for run, part in results.parts.items():
        at = f"| {run} " if has_runs else ""
        lines += [f"{at}| {r.name} | failed: {r.failed} |" + " |" * 12 for r in part.failed]
    return "\n".join(lines) + "\n"


def methods_note(results: MethodResults) -> str:
    """Markdown for the dashboard: the table with its protocol."""
    return (
        f"## Methods of {results.title}\n\n{methods_markdown(results)}\n"
        "nearest: mean Euclidean distance of pixels in [-1, 1] to the nearest training image. "
        "near copies: images as near as the closest 5 % of training images are to each other.\n"
    )


def front_lines(results: Methods) -> list[str]:
    """What is on the front of all methods; none where only full depth is."""
    names = [
        f"{entry.name} of {entry.run}" if len(results.parts) > 1 else entry.name
        for entry in results.front()
        if entry.name != FULL
    ]
    return [f"On the front beside full depth: {', '.join(names)}."] if names else []


def closing_lines(results: MethodResults, shown: str) -> list[str]:
    """What the table says of one run, and the next commands.

    Args:
        results: Methods of the run.
        shown: Its folder as people type it.
    """
    lines = []
    for entry in results.entries:
        twin = results.twin_of(entry)
        if twin is not None and (difference := entry.against(twin)) is not None:
            lines.append(
                f"{entry.name} against its static twin: FID {_difference(difference)}; the step "
                f"explains {entry.first.time_share or 0:.0%} of the variance of its depth."
            )
    full = results.full()
    lines += disagreements(full, [e for e in results.all() if e is not full])
    lines += plan_lines(results)
    by_batch = [e for e in results.entries if e.first.decision_batch is not None]
    if by_batch:
        names = ", ".join(entry.name for entry in by_batch)
        lines.append(f"Batches of {by_batch[0].first.decision_batch} decide together in {names}.")
    lines += [f"{e.name}: {e.first.note}." for e in results.entries if e.first.note]
    lines += [f"{record.name} failed: {record.failed}" for record in results.failed]
    lines += left_out_lines(results)
    lines.append(f"picture: {shown}/methods/front.png")
    export = f"schedsearch export {for_shell(shown)} --method NAME"
    lines.append(f"next: {export} -o method.yaml --weights FILE")
    return lines


def left_out_lines(results: MethodResults) -> list[str]:
    """A sentence on rows that do not count; none where all do."""
    if not results.left_out:
        return []
    names = ", ".join(results.left_out)
    return [f"Left out, measured with other settings than the space has now: {names}."]


def time_of(entry: MethodEntry) -> str:
    """Time as a share of full depth's."""
    return "-" if entry.ratio is None else f"{entry.ratio:.2f}"


def macs_of(entry: MethodEntry) -> str:
    """Multiply-accumulates as a share of full depth's."""
    if not entry.records or not entry.first.full_macs:
        return "-"
    return f"{entry.first.macs / entry.first.full_macs:.2f}"


def fid_of(entry: MethodEntry, num_samples: int) -> str:
    """Mean FID with half of its interval, and the number of images where it differs."""
    found = entry.estimate
    if found is not None:
        text = plus_minus(found.mean, found.half_width)
    else:
        text = rounded(entry.shown_fid)
    own = entry.shown_samples
    return text if own == num_samples else f"{text} (n={own})"


def cost_of(entry: MethodEntry) -> str:
    """CPU time of training and calibration."""
    seconds = _seconds(entry)
    return duration(seconds) if seconds >= 0.5 else "-"


def _judges(entry: MethodEntry) -> list[str]:
    """Pixel std, distance to the nearest training image, share of near copies."""
    found = entry.judges
    distance, copies = found.nn_distance, found.near_copies
    return [
        rounded(found.sample_std),
        "-" if distance is None else rounded(distance, most=2),
        "-" if copies is None else f"{copies:.1%}",
    ]


def _seconds(entry: MethodEntry) -> float:
    if not entry.records:
        return entry.trial.record.training_seconds if entry.trial else 0.0
    return entry.first.training_seconds + entry.first.calibration_seconds


def _difference(difference: PairedDifference | None) -> str:
    if difference is None or difference.mean == difference.half_width == 0.0:
        return "0" if difference is not None else "-"
    return f"{difference.mean:+.3f} ± {difference.half_width:.3f}"


def _style(difference: PairedDifference | None) -> str:
    return "" if difference is None else _STYLES[difference.verdict]


def _first(results: Methods) -> MethodEntry | None:
    """A row, or a schedule of the search where there is none."""
    return next(iter([*results.entries, *results.all()]), None)


def _full_by_run(results: Methods) -> dict[str, MethodEntry | None]:
    return {run: part.full() for run, part in results.parts.items()}


def _over(full: MethodEntry | None, entry: MethodEntry) -> PairedDifference | None:
    return None if full is None else entry.against(full)


def _fid_title(results: Methods) -> str:
    first = _first(results)
    return "FID" if first is None else fid_title(first.features, first.shown_samples)


def _num_samples(results: Methods) -> int:
    """Images behind most of the FIDs."""
    first = _first(results)
    return 0 if first is None else first.shown_samples


def _legend(results: Methods) -> list[str]:
    first = _first(results)
    if first is None:
        return ["Nothing is measured yet."]
    seeds = len(first.fids())
    lines = [
        f"{_fid_title(results)}, mean over {seeds} seeds; ± is half of a 95 % interval, and",
        "FID - full is paired by seed. Time and MACs are shares of full depth's.",
    ]
    if first.records and first.first.audit_features:
        lines.append(f"auditor: FID by {first.first.audit_features}, which chooses nothing.")
    lines.append("one-off: CPU time of training and calibration, before the first image.")
    return lines
