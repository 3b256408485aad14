"""The paper tables without timing: counts on the meta device, runs of tiny networks."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks import paper_tables
from benchmarks.paper_counts import (
    dit_savings,
    extra_heads_flops,
    flops_table,
    on_meta,
    parameters_table,
    u_vit_savings,
)
from benchmarks.paper_numbers import U_VIT_CELEBA
from benchmarks.paper_timings import (
    Run,
    acceleration_table,
    diffusers_table,
    random_backbone,
)
from benchmarks.paper_training import training_table
from benchmarks.result_tables import ResultFile
from schedsearch.settings import BackboneSettings, DiffusionSettings, SolverSettings

CPU = torch.device("cpu")
TINY_DIT = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 32,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 10,
    "learn_sigma": True,
}
TINY_U_VIT = {
    "img_size": 8,
    "patch_size": 2,
    "in_chans": 1,
    "embed_dim": 32,
    "depth": 12,
    "num_heads": 2,
}


@pytest.fixture(scope="module")
def counted():
    """The tables of the kept page that need no clock."""
    return {
        "parameters": parameters_table(),
        "flops": flops_table(),
        "savings/dit": dit_savings(),
        "savings/u-vit": u_vit_savings(),
    }


def rows_of(table, key):
    return {row[key]: row for row in table.rows}


# ---- counts -----------------------------------------------------------------------------------


def test_parameters_are_the_papers_to_one_percent(counted):
    rows = counted["parameters"].rows
    assert len(rows) == 9
    assert max(abs(row["deviation"]) for row in rows) < 0.01


def test_the_gflops_of_dit_are_multiply_accumulates(counted):
    rows = [row for row in counted["flops"].rows if row["model"].startswith("DiT")]
    assert [row["closest"] for row in rows] == ["macs"] * 4
    assert max(abs(row["deviation"]) for row in rows) < 1e-3


def test_the_gflops_of_deediff_leave_attention_out(counted):
    rows = [row for row in counted["flops"].rows if "U-ViT-S" in row["model"]]
    assert [row["closest"] for row in rows] == ["with_heads", "with_heads"]
    assert max(abs(row["deviation"]) for row in rows) < 0.01
    assert all(abs(row["macs"] / row["paper"] - 1) > 0.4 for row in rows)
    assert all(row["flops"] / row["paper"] - 1 > 0.06 for row in rows)


def test_extra_heads_by_hand():
    head = 257 * 512 * 48 + 64 * 64 * 9 * 3 * 3
    assert extra_heads_flops(on_meta(U_VIT_CELEBA)) == 2 * 12 * head


def test_flops_saved_on_the_u_vit_are_the_papers_accelerations(counted):
    rows = counted["savings/u-vit"].rows
    assert [row["paper"] for row in rows] == [0.213, 0.248, 0.297, 0.326]
    assert max(abs(row["deviation_points"]) for row in rows) < 0.5


def test_flops_saved_on_the_dit_are_the_share_of_blocks(counted):
    row = rows_of(counted["savings/dit"], "schedule")["D7-DiT"]
    assert row["blocks_saved"] == pytest.approx(11 / 28)
    assert row["flops_saved"] == pytest.approx(11 / 28, abs=1e-3)
    assert row["deviation_points"] == pytest.approx(100 * (row["flops_saved"] - 0.3892))


# ---- runs of tiny networks --------------------------------------------------------------------


def test_an_acceleration_table_has_a_row_per_schedule_and_full_depth():
    run = Run(
        model="tiny",
        backbone=BackboneSettings(family="uvit", config=TINY_U_VIT),
        schedules=("D1-U-ViT", "D6-U-ViT"),
        diffusion=DiffusionSettings(betas="vp"),
        solver=SolverSettings(name="euler_maruyama", num_steps=10),
        batch=2,
        dtype="float32",
        repeats=1,
    )
    table = acceleration_table(run, CPU)
    rows = rows_of(table, "schedule")
    assert set(rows) == {"D1-U-ViT", "D6-U-ViT", "full"}
    assert rows["full"]["measured"] is None
    for name in ("D1-U-ViT", "D6-U-ViT"):
        row = rows[name]
        assert row["margin_points"] == pytest.approx(100 * (row["measured"] - row["ideal"]))
    assert 0.1 < rows["D1-U-ViT"]["ideal"] < rows["D6-U-ViT"]["ideal"] < 0.4
    assert "euler_maruyama 10 steps, no guidance, float32, batch 2" in table.note
    table.to_markdown()


def test_the_ideal_of_a_dit_is_its_share_of_blocks():
    run = Run(
        model="tiny",
        backbone=BackboneSettings(family="dit", config=TINY_DIT),
        schedules=("D7-DiT",),
        diffusion=DiffusionSettings(),
        solver=SolverSettings(name="ddim", num_steps=2, cfg_scale=1.5),
        batch=1,
        dtype="bfloat16",
        repeats=1,
    )
    (row,) = [row for row in acceleration_table(run, CPU).rows if row["schedule"] == "D7-DiT"]
    assert row["ideal"] == pytest.approx(1 - (4 + 1) / 8)  # at 0 and 999
    assert row["paper"] == 0.3892


def test_no_matrix_of_a_random_network_is_zero():
    net = random_backbone(BackboneSettings(family="dit", config=TINY_DIT), CPU)
    assert all(parameter.any() for parameter in net.parameters() if parameter.dim() > 1)


def test_diffusers_of_the_same_size_runs_beside_ours():
    table = diffusers_table(
        TINY_DIT, CPU, model="tiny", batches=(1, 2), dtype=torch.float32, repeats=1, calls=1
    )
    assert [row["batch"] for row in table.rows] == [1, 2]
    for row in table.rows:
        assert row["ours_ms"] > 0
        # One round: of more, the median ratio need not be the ratio of the medians.
        assert row["ratio"] == pytest.approx(row["ours_ms"] / row["diffusers_ms"])


def test_both_dits_multiply_numbers_that_are_not_zero(monkeypatch):
    outputs = {}

    def run_once(work, clock, repeats):
        outputs.update({name: next(iter(start())) for name, start in work.items()})
        return {name: [1.0] for name in work}

    monkeypatch.setattr("benchmarks.paper_timings.time_rounds", run_once)
    diffusers_table(
        TINY_DIT, CPU, model="tiny", batches=(1,), dtype=torch.float32, repeats=1, calls=1
    )
    assert bool(outputs["ours"].any())
    assert bool(outputs["diffusers"].sample.any())


@pytest.mark.parametrize(("family", "config"), [("dit", TINY_DIT), ("uvit", TINY_U_VIT)])
def test_a_training_table_has_a_row_per_schedule(family, config):
    backbone = BackboneSettings(family=family, config=config)
    names = [f"{name}-{'DiT' if family == 'dit' else 'U-ViT'}" for name in ("D2", "D3")]
    table = training_table(backbone, names, CPU, model="tiny", batch=10, repeats=1)
    assert [row["schedule"] for row in table.rows] == names
    assert 1 > table.rows[0]["ideal"] > table.rows[1]["ideal"] > 0.5


# ---- the page and the command -------------------------------------------------------------------


def test_the_kept_page_shows_the_kept_tables(counted):
    file = paper_tables.RESULTS / "paper_tables_cpu.json"
    kept = ResultFile.read(file, paper_tables.TITLE, paper_tables.INTRODUCTION)
    for key, table in counted.items():
        assert kept.tables[key].to_markdown() == table.to_markdown()
    assert file.with_suffix(".md").read_text(encoding="utf-8") == kept.to_markdown()


def test_what_is_left_out_is_said(tmp_path, capsys):
    file = tmp_path / "out.json"
    paper_tables.main(["--device", "cpu", "--parts", "training", "--json", str(file)])
    assert "training/DiT-XL/2: left out: needs a CUDA device" in capsys.readouterr().out
    page = file.with_suffix(".md").read_text()
    assert "- training/DiT-XL/2: needs a CUDA device" in page
    assert str(tmp_path) not in page + file.read_text()


def test_without_a_gpu_times_are_scaled_down_not_left_out():
    planned = dict(paper_tables.plan(["time", "diffusers"], CPU, None))
    assert list(planned) == ["time/DiT-XL/2/batch 1", "time/U-ViT-S/4/batch 2", "diffusers"]
    assert all(callable(measurement) for measurement in planned.values())


def test_the_plan_of_a_gpu_has_every_table():
    planned = dict(paper_tables.plan(list(paper_tables.PARTS), torch.device("cuda"), None))
    assert list(planned) == [
        "parameters",
        "flops",
        "savings/dit",
        "savings/u-vit",
        "time/DiT-XL/2/batch 32",
        "time/DiT-XL/2/batch 8",
        "time/U-ViT-S/4/batch 256",
        "time/U-ViT-S/4/batch 32",
        "time/U-ViT-S/4/batch 8",
        "diffusers",
        "training/DiT-XL/2",
        "training/U-ViT-S/4",
    ]
    assert all(callable(measurement) for measurement in planned.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--parts", "time,speed"], "unknown speed"), (["--repeats", "0"], "must be >= 1")],
)
def test_wrong_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        paper_tables.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_without_a_device_is_refused(capsys):
    with pytest.raises(SystemExit):
        paper_tables.main(["--device", "cuda"])
    assert "no CUDA device" in capsys.readouterr().err


def test_runs_of_the_papers_protocol():
    run = paper_tables.dit_run(32, 7, num_steps=50, dtype="bfloat16")
    assert dataclasses.asdict(run.solver)["cfg_channels"] == 3
    assert run.protocol.startswith("ddim 50 steps, CFG 1.5, bfloat16, batch 32")
