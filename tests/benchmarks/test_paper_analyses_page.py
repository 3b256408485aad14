"""The papers' analyses: means and intervals, kept rows, page and command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from statistics import stdev

import pytest
from tiny_analyses import row

from benchmarks.paper_analyses import __main__ as command
from benchmarks.paper_analyses.analyses import D7, FULL
from benchmarks.paper_analyses.cases import Case, Part, Tuning
from benchmarks.paper_analyses.measuring import Job, Row, run_job
from benchmarks.paper_analyses.page import page_text
from benchmarks.paper_analyses.parts import PARTS
from benchmarks.paper_analyses.rows_file import RowsFile
from benchmarks.paper_analyses.summary import summary_table

# ---- counting ---------------------------------------------------------------------------------


def made_row(name: str, replicate: int, fid: float, evaluation: int = 0) -> Row:
    return Row(
        key=f"g | {name}",
        replicate=replicate,
        evaluation_seed=100 * replicate + evaluation,
        fid=fid,
        audit_fid=2 * fid,
        kid=0.0,
        sample_std=0.5,
        class_accuracy=None,
        blocks=1.0,
    )


CASES = [
    Case(
        tuning=Tuning(kind="pretrained"),
        measurements=[row("other", paper="3.1"), row("base", is_baseline=True)],
    )
]


def table_of(rows: list[Row]) -> dict[str, dict[str, object]]:
    table = summary_table(CASES, rows, "n")
    table.to_markdown()
    return {line["row"]: line for line in table.rows}


def test_differences_are_paired_by_replicate() -> None:
    base, shift = [1.0, 2.0, 3.0], [-0.11, -0.10, -0.12]
    rows = [made_row("base", seed, fid) for seed, fid in enumerate(base)]
    rows += [
        made_row("other", seed, b + s) for seed, (b, s) in enumerate(zip(base, shift, strict=True))
    ]
    lines = table_of(rows)
    half_width = 4.302653 * stdev(shift) / math.sqrt(3)  # Student's t, 2 degrees of freedom
    assert lines["other"]["difference"] == f"-0.110 ± {half_width:.3f}"
    assert lines["other"]["verdict"] == "better"
    assert lines["other"]["auditor difference"] == f"-0.220 ± {2 * half_width:.3f}"
    assert lines["other"]["auditor FID"] == pytest.approx(2 * (2.0 - 0.11))
    assert lines["base"]["FID"] == f"2.000 ± {4.302653 / math.sqrt(3):.3f}"
    assert lines["base"]["difference"] is None
    assert list(lines) == ["base", "other"]
    worse = [dataclasses.replace(r, fid=-r.fid) for r in rows]
    assert table_of(worse)["other"]["verdict"] == "worse"


def test_evaluation_seeds_of_one_network_are_one_value() -> None:
    rows = [made_row("base", seed, 1.0, n) for seed in range(2) for n in range(4)]
    rows += [made_row("other", seed, 1.0 + seed + 0.1 * n, n) for seed in range(2) for n in (0, 2)]
    line = table_of(rows)["other"]
    assert line["seeds"] == 2
    assert str(line["difference"]).startswith("+0.600 ± 6.353")  # t(1) = 12.706, sd = 0.7071
    assert line["verdict"] == "no difference"


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    line = table_of([made_row("base", 0, 1.0), made_row("other", 0, 1.5)])["other"]
    assert (line["difference"], line["verdict"]) == ("+0.500", "one seed")


def test_rows_that_share_no_seed_are_not_compared() -> None:
    line = table_of([made_row("base", 0, 1.0), made_row("other", 1, 1.5)])["other"]
    assert (line["difference"], line["verdict"]) == (None, None)


# ---- the file and the command -----------------------------------------------------------------


def test_rows_of_another_protocol_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    file = RowsFile.open(path, "ema", {"num_samples": 40})
    file.add([made_row("base", 0, 1.0)], seconds=2.0)
    again = RowsFile.open(path, "ema", {"num_samples": 40})
    assert again.rows == file.rows
    assert again.seconds == 2.0
    with pytest.raises(SystemExit, match=r"num_samples: 40 there, 50 now.*another --json"):
        RowsFile.open(path, "ema", {"num_samples": 50})
    with pytest.raises(SystemExit, match="part: ema there, lambda now"):
        RowsFile.open(path, "lambda", {"num_samples": 40})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1, "rows": [{}]}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match="holds no rows of an analysis"):
        RowsFile.open(path, "ema", {})


def tiny_cases(scale: float) -> list[Case]:
    return [
        Case(
            tuning=Tuning(kind="schedule", depths=depths, num_steps=1),
            measurements=[row(name, depths=depths, is_baseline=name == "full")],
        )
        for name, depths in {"full": FULL, "D7": D7}.items()
    ]


@pytest.mark.parametrize("name", PARTS)
def test_a_kept_page_shows_the_kept_rows(name: str) -> None:
    path = command.RESULTS / f"paper_analyses_{name}.json"
    file = RowsFile.read(path)
    seeds = len({row.replicate for row in file.rows.values()})
    shown = command.shown_command(command.build_parser().parse_args([name]))
    page = page_text(PARTS[name], file, shown, seeds)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page


def never(job: Job) -> None:
    raise AssertionError("measured again")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    tiny = Part(
        name="ema", title="Tiny", question="q", rows="r", limits=("few rows",), cases=tiny_cases
    )
    monkeypatch.setitem(command.PARTS, "ema", tiny)
    path = tmp_path / "sub" / "rows.json"
    return ["ema", "--num-samples", "40", "--jobs", "1", "--json", str(path)]


def test_the_same_command_goes_on_and_more_seeds_add(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(arguments[-1])
    assert command.main([*arguments, "--seeds", "1"]) == 0
    first = json.loads(path.read_text())["rows"]
    assert len(first) == 2
    with monkeypatch.context() as patch:
        patch.setattr(command, "run_job", never)
        assert command.main([*arguments, "--seeds", "1"]) == 0
    assert "0 networks to fine-tune and measure, 2 are measured" in capsys.readouterr().err
    assert command.main([*arguments, "--seeds", "2"]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 4
    assert all(kept in rows for kept in first)
    shown = capsys.readouterr().out
    page = path.with_suffix(".md").read_text()
    assert page in shown
    assert "| g | D7 | 10 10 9 8 6 5 4 4 3 3 |" in page
    assert "paper_analyses ema --seeds 2 --num-samples 40\n```" in page
    assert "FID (digits CNN, n=40)" in page
    assert "Training seeds: 2. Evaluation seeds of each: 1" in page
    assert "* few rows" in page
    assert str(path.parent) not in page + path.read_text()


def test_what_was_measured_before_an_interruption_is_kept(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def interrupted(job: Job) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(job)
        return run_job(job)

    with monkeypatch.context() as patch:
        patch.setattr(command, "run_job", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.main([*arguments, "--seeds", "1"])
    assert len(json.loads(Path(arguments[-1]).read_text())["rows"]) == 1
    assert command.main([*arguments, "--seeds", "1"]) == 0
    assert len(json.loads(Path(arguments[-1]).read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--seeds", "0"], "must be >= 1, got 0"),
        (["--jobs", "-1"], "must be >= 1, got -1"),
        (["--scale", "0.001"], "must be in 0.01..100"),
        (["--scale", "nan"], "must be in 0.01..100"),
    ],
)
def test_wrong_arguments_are_refused(
    extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["ema", *extra])
    assert message in capsys.readouterr().err
