"""The papers' analyses: what they compare, how they count, and that they resume."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from statistics import stdev

import pytest
import torch

from benchmarks.paper_analyses import __main__ as command
from benchmarks.paper_analyses.analyses import D3, D7, FULL, SOLVERS, shapes_of
from benchmarks.paper_analyses.cases import Case, Measurement, Part, Tuning, solver
from benchmarks.paper_analyses.measuring import FIRST_EVALUATION_SEED, Job, Row, run_job
from benchmarks.paper_analyses.networks import OneInterval, PerInterval
from benchmarks.paper_analyses.page import page_text
from benchmarks.paper_analyses.parts import PARTS
from benchmarks.paper_analyses.rows_file import RowsFile
from benchmarks.paper_analyses.summary import summary_table
from schedsearch.config import dump_settings, read_settings
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.schedule import ExitSchedule
from schedsearch.settings import LambdaSettings

# ---- what is compared -------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_rows_have_names_of_their_own_and_groups_one_baseline(name: str, scale: float) -> None:
    rows = [m for case in PARTS[name].cases(scale) for m in case.measurements]
    assert max(Counter(row.key for row in rows).values()) == 1
    baselines = Counter(row.group for row in rows if row.is_baseline)
    assert baselines == dict.fromkeys({row.group for row in rows}, 1)


@pytest.mark.parametrize("depths", [D3, D7])
def test_shapes_spend_the_same(depths: tuple[int, ...]) -> None:
    shapes = shapes_of(depths)
    assert {sum(shape) for shape in shapes.values()} == {sum(depths)}
    assert len(set(shapes.values())) == 5
    for name in ("hump", "valley", "reversed"):
        assert sorted(shapes[name]) == sorted(depths)
    assert max(shapes["flat"]) - min(shapes["flat"]) <= 1
    hump, valley = shapes["hump"], shapes["valley"]
    assert hump.index(max(hump)) in (4, 5)
    assert valley.index(min(valley)) in (4, 5)


def test_solvers_visit_all_intervals_equally_so_that_budgets_are_equal() -> None:
    numbered = ExitSchedule(tuple(range(10)))
    for name, counts in SOLVERS:
        for num in counts:
            times = build_solver(solver(name, num), DDPMProcess()).times
            visits = Counter(numbered.visited(times))
            assert len(visits) == 10
            assert set(visits.values()) == {num // 10}, (name, num)


def test_solver_rows_share_one_network_per_schedule() -> None:
    cases = PARTS["solvers"].cases(1.0)
    assert [case.tuning.depths for case in cases] == [FULL, D3, D7]
    assert len({case.tuning.num_steps for case in cases}) == 1


def test_mixed_k_drops_blocks_where_the_tuned_network_runs_and_nowhere_else() -> None:
    rows = [m for case in PARTS["baselines"].cases(1.0) for m in case.measurements]
    mixed = [row for row in rows if row.tuned_interval is not None]
    assert [row.tuned_interval for row in mixed] == [1, 3, 5, 7, 9]
    for row in mixed:
        kept = [d for interval, d in enumerate(row.depths) if interval != row.tuned_interval]
        assert kept == [10] * 9
        assert row.tuned_interval is not None
        assert row.depths[row.tuned_interval] == D3[row.tuned_interval]


def test_experts_see_as_much_data_or_ten_times_as_much() -> None:
    cases = PARTS["baselines"].cases(1.0)
    steps = [case.tuning.num_steps for case in cases if case.tuning.kind == "experts"]
    assert steps == [10, 100]


# ---- networks and processes -------------------------------------------------------------------


def test_an_expert_is_trained_on_its_interval_only() -> None:
    generator = torch.Generator().manual_seed(0)
    process = OneInterval(3)
    times = process.draw_times(20_000, generator)
    assert (int(times.min()), int(times.max())) == (300, 399)
    assert abs(float(times.float().mean()) - 349.5) < 1
    t = torch.tensor([350])
    assert torch.equal(process.scales(t)[0], DDPMProcess().scales(t)[0])


@pytest.mark.parametrize(("interval", "num"), [(10, 10), (-1, 10), (0, 7)])
def test_intervals_that_do_not_exist_are_refused(interval: int, num: int) -> None:
    with pytest.raises(ValueError, match="There is no interval"):
        OneInterval(interval, num)


class Constant(torch.nn.Module):
    """Answers with its own number."""

    num_exit_blocks, in_shape, num_classes = 10, (1, 2, 2), None

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x, t, y, *, exit_depth):
        return torch.full_like(x, self.value + exit_depth)


def test_every_interval_has_its_network() -> None:
    net = PerInterval([Constant(100.0 * number) for number in range(10)])
    x = torch.zeros(2, 1, 2, 2)
    for time, number in ((0, 0), (99, 0), (100, 1), (550, 5), (999, 9)):
        found = net(x, torch.full((2,), time), None, exit_depth=3)
        assert float(found[0, 0, 0, 0]) == 100 * number + 3
    with pytest.raises(ValueError, match="one time per batch"):
        net(x, torch.tensor([1, 2]), None, exit_depth=3)


# ---- measuring --------------------------------------------------------------------------------

THREE_STEPS = solver("dpm_solver", 3)  # calls in the intervals 9, 6 and 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("reference"))


def measure(folder: str, tuning: Tuning, *rows: Measurement, replicate: int = 0) -> dict[str, Row]:
    settings = read_settings("digits_dit", command.OVERRIDES)
    job = Job(
        case=Case(tuning=tuning, measurements=rows),
        replicate=replicate,
        evaluations=1,
        num_samples=40,
        settings=dump_settings(settings),
        reference_dir=folder,
    )
    return {row.key.partition(" | ")[2]: row for row in run_job(job).rows}


def row(name: str, **fields: object) -> Measurement:
    values = {"group": "g", "depths": FULL, "solver": THREE_STEPS, **fields}
    return Measurement(row=name, **values)  # type: ignore[arg-type]


def test_a_tuned_network_counts_only_in_its_interval(folder: str) -> None:
    plain = measure(folder, Tuning(kind="pretrained"), row("plain"))["plain"]
    tuned = measure(
        folder,
        Tuning(kind="schedule", depths=D7, num_steps=3),
        row("never visited", tuned_interval=5),
        row("visited", tuned_interval=6),
        row("everywhere"),
    )
    assert tuned["never visited"].fid == plain.fid
    assert len({plain.fid, tuned["visited"].fid, tuned["everywhere"].fid}) == 3
    assert plain.blocks == 1.0
    assert plain.audit_fid not in (plain.fid, tuned["everywhere"].audit_fid)


def test_replicates_differ_in_training_and_in_noise_and_repeat(folder: str) -> None:
    tuning = Tuning(kind="schedule", depths=D7, num_steps=2)
    first, again = (measure(folder, tuning, row("a", depths=D7))["a"] for _ in range(2))
    other = measure(folder, tuning, row("a", depths=D7), replicate=1)["a"]
    assert first == again
    assert (first.replicate, first.evaluation_seed) == (0, FIRST_EVALUATION_SEED)
    assert (other.replicate, other.evaluation_seed) == (1, FIRST_EVALUATION_SEED + 1)
    assert first.fid != other.fid
    assert first.blocks == pytest.approx((D7[3] + D7[6] + D7[9]) / 30)


@pytest.mark.parametrize("kind", ["experts", "uniform exits", "random schedules"])
def test_every_kind_of_tuning_changes_the_network(folder: str, kind: str) -> None:
    tuning = Tuning(kind=kind, depths=FULL, num_steps=1, ema_decay=0.0)  # type: ignore[arg-type]
    plain = measure(folder, Tuning(kind="pretrained"), row("a"))["a"]
    tuned = measure(folder, tuning, row("a"))["a"]
    assert math.isfinite(tuned.fid)
    assert tuned.fid != plain.fid


def test_the_recipe_of_a_row_reaches_the_trainer(folder: str) -> None:
    tuning = Tuning(kind="schedule", depths=D7, num_steps=2, ema_decay=0.0)
    changes = [
        {},
        {"ema_decay": 0.9},
        {"num_steps": 3},
        {"lambda_weighting": LambdaSettings(kind="none")},
        {"depths": FULL},
    ]
    fids = {
        measure(folder, dataclasses.replace(tuning, **change), row("a"))["a"].fid  # type: ignore[arg-type]
        for change in changes
    }
    assert len(fids) == len(changes)


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
