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

if TYPE_CHECKING:
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.methods.results import MethodResults
    from schedsearch.statistics.paired import PairedDifference

_STYLES = {"better": "green", "no difference": "", "worse": "red"}


def methods_table(results: MethodResults, shown: Sequence[MethodEntry] | None = None) -> Table:
    """Methods by latency, at most 100 columns wide; None shows all."""
    table = Table(
        title=f"Methods of {results.run.settings.name}, by time",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="\n".join(_legend(results)),
    )
    table.add_column("method", no_wrap=True)
    for title in ("time", "blocks", "MACs", "FID", "FID - full", "auditor", "one-off"):
        table.add_column(title, justify="right", no_wrap=True)
    full, num_samples = results.full(), _num_samples(results)
    for entry in results.all() if shown is None else shown:
        difference = None if full is None else entry.against(full)
        table.add_row(
            entry.name,
            time_of(entry),
            "-" if entry.share is None else f"{entry.share:.0%}",
            macs_of(entry),
            fid_of(entry, num_samples),
            Text(_difference(difference), style=_style(difference)),
            "-" if entry.audit_fid is None else rounded(entry.audit_fid),
            cost_of(entry),
        )
    for record in results.failed if shown is None else ():
        table.add_row(record.name, Text("failed", style="red"), *[""] * 6)
    return table


def methods_markdown(results: MethodResults) -> str:
    """The same as markdown, with all cost terms."""
    full, num_samples = results.full(), _num_samples(results)
    titles = [
        "method", "time / full", "blocks", "MACs / full", _fid_title(results), "FID - full",
        "auditor", "pixel std", "nearest", "near copies", "extra parameters",
        "held, kB per image", "training samples", "one-off, CPU-s",
    ]  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for entry in results.all():
        record = entry.first if entry.records else None
        cells = [
            entry.name,
            time_of(entry),
            "-" if entry.share is None else f"{entry.share:.2f}",
            macs_of(entry),
            fid_of(entry, num_samples),
            _difference(None if full is None else entry.against(full)),
            "-" if entry.audit_fid is None else f"{entry.audit_fid:.3f}",
            *_judges(entry),
            "-" if record is None else f"{record.extra_parameters:,}",
            "-" if record is None else f"{record.held_bytes / 1000:.1f}",
            "-" if record is None else f"{record.training_samples:,}",
            "-" if record is None else f"{_seconds(entry):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {r.name} | failed: {r.failed} |" + " |" * 12 for r in results.failed]
    return "\n".join(lines) + "\n"


def methods_note(results: MethodResults) -> str:
    """Markdown for the dashboard: the table with its protocol."""
    return (
        f"## Methods of {results.run.settings.name}\n\n{methods_markdown(results)}\n"
        "nearest: mean Euclidean distance of pixels in [-1, 1] to the nearest training image. "
        "near copies: images as near as the closest 5 % of training images are to each other.\n"
    )


def closing_lines(results: MethodResults, shown: str) -> list[str]:
    """What the table says, and the next commands."""
    lines = []
    front = [entry.name for entry in results.front() if entry.name != "full"]
    if front:
        lines.append(f"On the front beside full depth: {', '.join(front)}.")
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
    """Mean FID with half of its interval; with its number of images where that is another."""
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
        return entry.trial.record.stage_seconds.get("fine-tune", 0.0) if entry.trial else 0.0
    return entry.first.training_seconds + entry.first.calibration_seconds


def _difference(difference: PairedDifference | None) -> str:
    if difference is None or difference.mean == difference.half_width == 0.0:
        return "0" if difference is not None else "-"
    return f"{difference.mean:+.3f} ± {difference.half_width:.3f}"


def _style(difference: PairedDifference | None) -> str:
    return "" if difference is None else _STYLES[difference.verdict]


def _fid_title(results: MethodResults) -> str:
    for entry in results.entries:
        return fid_title(entry.features, entry.shown_samples)
    return "FID"


def _num_samples(results: MethodResults) -> int:
    """Images behind the FIDs of the rows."""
    return next((entry.shown_samples for entry in results.entries), 0)


def _legend(results: MethodResults) -> list[str]:
    first = next(iter(results.entries), None)
    if first is None:
        return ["Nothing is measured yet."]
    seeds = len(first.fids())
    lines = [
        f"{_fid_title(results)}, mean over {seeds} seeds; ± is half of a 95 % interval, and",
        "FID - full is paired by seed. Time and MACs are shares of full depth's.",
    ]
    if first.first.audit_features:
        lines.append(f"auditor: FID by {first.first.audit_features}, which chooses nothing.")
    lines.append("one-off: CPU time of training and calibration, before the first image.")
    return lines
