"""The Markdown page of an analysis: question, protocol, command, table and limits."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from benchmarks.paper_analyses.cases import Part
from benchmarks.paper_analyses.rows_file import RowsFile
from benchmarks.paper_analyses.summary import summary_table

WIDTH = 99
PROTOCOL = (
    "Model: the DiT of `search_spaces/digits_dit.yaml`, 10 blocks, on 8 x 8 digits. Every "
    "fine-tune uses the recipe of that file. It takes {scale}100 steps unless a group or row "
    "says otherwise.",
    "Solver: DPM-Solver++(2M) with 20 steps unless a group says otherwise. Its steps are spaced "
    "so that they visit all ten intervals equally often.",
    "FID (digits CNN, n={num_samples}); lower is better. KID is of the same features. The auditor "
    "is FID (digits MLP) of the same images: a second network that made no choice.",
    "Training seeds: {seeds}. Evaluation seeds of each: {evaluations}, all different. ± is half "
    "of the 95 % interval by Student's t over the training seeds.",
    "Differences are to the first row of the group and paired: both rows share batches, starting "
    "noise and labels. `better` or `worse`: the interval excludes 0. `no difference`: it "
    "includes 0.",
)
LIMITS = (
    "Every interval is for one row. Of twenty rows without an effect, one is expected to look "
    "like one.",
    "With few training seeds intervals are wide, and `no difference` may hide a small one.",
    "The model is small, and FID compares with the 1,797 images it was trained on. Nothing here "
    "says what a large model does.",
)


def page_text(part: Part, file: RowsFile, command: str, seeds: int) -> str:
    """The page of an analysis.

    Args:
        part: The analysis.
        file: Its rows.
        command: The command that measures them.
        seeds: Training seeds to show; the file may hold more.
    """
    scale = float(file.protocol["scale"])
    values = {
        "num_samples": file.protocol["num_samples"],
        "evaluations": file.protocol["evaluations"],
        "seeds": seeds,
        "scale": "" if scale == 1 else f"{scale:g} x ",
    }
    rows = [row for row in file.rows.values() if row.replicate < seeds]
    table = summary_table(part.cases(scale), rows, textwrap.fill(part.rows, WIDTH))
    cost = f"{file.seconds / 60:.1f} CPU-minutes, torch {file.protocol['torch']}."
    return "\n".join(
        [
            *(f"# {part.title}", "", part.question, ""),
            *("## Protocol", "", _bullets(line.format(**values) for line in PROTOCOL), ""),
            *("```bash", command, "```", "", cost, ""),
            table.to_markdown(),
            *("## Limits", "", _bullets((*part.limits, *LIMITS)), ""),
        ]
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(
            line, WIDTH, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False
        )
        for line in lines
    )
