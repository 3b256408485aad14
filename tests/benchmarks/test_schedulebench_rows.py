"""How tables are made: rows that survive a stop, and work that schedules share exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.schedulebench import digits, uvit, uvit_weights
from benchmarks.schedulebench.make import main, shard_of
from benchmarks.schedulebench.prefix_memo import PrefixMemo, noisy_end_first
from benchmarks.schedulebench.rows import RowFolder, chunks, key_of, sharded
from schedsearch.backbones.uvit import UViT
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.config import dump_settings
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.workbench import Workbench, open_workbench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The study of the U-ViT table with random weights."""
    folder = tmp_path_factory.mktemp("uvit")
    torch.manual_seed(0)
    net = UViT(
        img_size=8, patch_size=2, in_chans=1, embed_dim=64, depth=12, num_heads=4, num_classes=10
    )
    with torch.no_grad():  # the official initial values hardly react to the exit depth
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_weights(net, folder / uvit_weights.SHARED, {"seconds": "321.5"})
    return open_workbench(dump_settings(uvit.study(folder)), str(folder / "reference"))


def test_shared_prefixes_give_the_fid_of_plain_sampling_bit_for_bit(bench: Workbench) -> None:
    schedules = noisy_end_first(
        [
            (6,) * 10,
            (6,) * 9 + (3,),
            (6, 6, 6, 6, 2, 2, 2, 1, 1, 1),
            (1,) * 10,
        ]
    )
    evaluator = uvit.Evaluator(bench, seed=3, num_samples=20)
    shared = [evaluator.fid(depths) for depths in schedules]
    plain = [
        bench.measure(bench.backbone, ExitSchedule(depths), seed=3, num_samples=20).fid
        for depths in schedules
    ]
    assert shared == plain
    assert len(set(plain)) == len(plain)
    assert evaluator.memo.num_run < evaluator.memo.num_asked == 20 * len(schedules)


def test_calls_that_are_left_are_those_of_the_prefix_tree(bench: Workbench) -> None:
    """The calls of one interval per distinct prefix."""
    schedules = noisy_end_first(
        s.depths for s in uvit_weights.SPACE.enumerate() if s.depths[0] <= 2 or s.depths[-1] == 6
    )
    memo = PrefixMemo(_CountsOnly(), 20)
    times = bench.solver.times
    for depths in schedules:
        x = torch.zeros(1, dtype=torch.int64)  # all depths so far, three bits each
        for t in times:
            depth = ExitSchedule(depths).depth_at(t)
            x = 8 * x + memo(x, torch.tensor([t]), None, exit_depth=depth)
    prefixes = {depths[place:] for depths in schedules for place in range(10)}
    places = [ExitSchedule(tuple(range(10))).depth_at(t) for t in times]
    assert memo.num_run == sum(places.count(10 - len(prefix)) for prefix in prefixes)


class _CountsOnly(torch.nn.Module):
    in_shape, num_classes, num_exit_blocks = (1, 8, 8), None, 6

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, y: None, *, exit_depth: int
    ) -> torch.Tensor:
        return torch.full_like(x, exit_depth)


def test_the_whole_tree_has_8007_prefixes() -> None:
    prefixes = {d[place:] for d in uvit.schedules_in_order() for place in range(10)}
    assert (len(uvit.schedules_in_order()), len(prefixes)) == (3003, 8007)


def test_another_input_is_not_answered_from_memory() -> None:
    memo = PrefixMemo(_Doubles(), 1)
    t = torch.ones(1)
    assert memo(torch.ones(1), t, None, exit_depth=1) == 2.0
    assert memo(torch.ones(1), t, None, exit_depth=1) == 2.0
    assert memo.num_run == 1
    assert memo(torch.full((1,), 3.0), t, None, exit_depth=1) == 6.0
    assert memo(torch.full((1,), 3.0), t, None, exit_depth=2) == 12.0
    assert memo(torch.full((1,), 3.0), 2 * t, None, exit_depth=2) == 24.0
    assert memo.num_run == 4


class _Doubles(_CountsOnly):
    def forward(
        self, x: torch.Tensor, t: torch.Tensor, y: None, *, exit_depth: int
    ) -> torch.Tensor:
        return 2.0 * x * t * exit_depth


def test_digits_start_with_full_depth_presets_and_flat_ones_and_hold_all() -> None:
    order = digits.schedules_in_order()
    assert order[0] == (10,) * 10
    assert order[1] == (10, 10, 10, 10, 7, 7, 7, 7, 7, 7)  # D2: 10 10 9 9 8 8 7 7 6 6
    assert {(7,) * 10, (4,) * 10, (1,) * 10} <= set(order[:10])
    assert len(order) == len(set(order)) == 286


def test_a_stopped_table_goes_on_and_shards_share_a_folder(tmp_path: Path) -> None:
    first = RowFolder.open(tmp_path, 0, 2)
    first.append(key=key_of((3, 2)), fid=1.0)
    RowFolder.open(tmp_path, 1, 2).append(key=key_of((2, 2)), fid=2.0)
    with (tmp_path / "rows-0of2.jsonl").open("a") as handle:
        handle.write('{"key": "1-1", "fi')  # killed while it wrote
    again = RowFolder.open(tmp_path, 0, 2)
    assert again.done() == {"3-2", "2-2"}
    again.append(key="1-1", fid=3.0)
    assert [row.values["fid"] for row in again.rows()] == [1.0, 3.0, 2.0]


def test_a_folder_that_does_not_say_all_names_what_to_add(tmp_path: Path) -> None:
    rows = RowFolder.open(tmp_path)
    rows.bind({"num_samples": 500, "levels": (1, 2)})
    new = {"num_samples": 500, "levels": (1, 2), "study_digest": "12ab", "pretrained": "sha256:5"}
    with pytest.raises(ConfigError, match="does not say study_digest and pretrained") as caught:
        rows.bind(new)
    added = '"study_digest": "12ab", "pretrained": "sha256:5"'
    assert f"add {added} there, else choose another --output." in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = (tmp_path / "protocol.json").read_text()
    (tmp_path / "protocol.json").write_text(kept.replace('"num', f'{added}, "num'))
    rows.bind(new)
    with pytest.raises(ConfigError, match="num_samples, pretrained differ"):
        rows.bind({**new, "num_samples": 400, "pretrained": "sha256:6"})


@pytest.mark.parametrize("change", ["recipe", "weights"])
def test_the_digits_bind_recipe_and_weights(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits.make_rows(tmp_path, 0, 1, print, 0)
    digits.make_rows(tmp_path, 0, 1, print, 0)
    study = digits.study()
    if change == "recipe":
        study = dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, lr=5e-5))
        differing = "study_digest"
    else:
        random = dataclasses.replace(study.backbone, checkpoint=None)
        study, differing = dataclasses.replace(study, backbone=random), "pretrained"
    monkeypatch.setattr(digits, "study", lambda: study)
    with pytest.raises(ConfigError, match=rf"\({differing} differ\)"):
        digits.make_rows(tmp_path, 0, 1, print, 0)


def test_the_sunk_cost_is_what_the_weights_say(bench: Workbench, tmp_path: Path) -> None:
    folder = bench.reference_dir.parent
    found = uvit.sunk_cost(folder)
    assert found["shared_seconds"] == 321.5
    assert found["shared_seconds_clock"].startswith("wall")  # before headers named a clock
    header = {"seconds": "2.0", "clock": uvit_weights.CPU_CLOCK}
    save_weights(torch.nn.Linear(1, 1), tmp_path / uvit_weights.SHARED, header)
    assert uvit.sunk_cost(tmp_path)["shared_seconds_clock"] == uvit_weights.CPU_CLOCK
    save_weights(torch.nn.Linear(1, 1), tmp_path / uvit_weights.SHARED, {})
    with pytest.raises(ConfigError, match="needs `seconds`"):
        uvit.sunk_cost(tmp_path)
    (tmp_path / uvit_weights.SHARED).unlink()
    with pytest.raises(ConfigError, match="is missing"):
        uvit.sunk_cost(tmp_path)
    assert digits.sunk_cost(tmp_path) == {}


def test_rows_of_two_protocols_never_meet(tmp_path: Path) -> None:
    rows = RowFolder.open(tmp_path)
    rows.bind({"num_samples": 500, "seeds": (0, 1)})
    rows.bind({"num_samples": 500, "seeds": (0, 1)})
    with pytest.raises(ConfigError, match="num_samples"):
        rows.bind({"num_samples": 400, "seeds": (0, 1)})


@pytest.mark.parametrize("split", [sharded, chunks])
def test_shards_hold_every_item_once(split: Callable[..., list[int]]) -> None:
    items = list(range(11))
    parts = [split(items, shard, 3) for shard in range(3)]
    assert sorted(item for part in parts for item in part) == items


def test_a_wrong_shard_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert shard_of("1/2") == (1, 2)
    with pytest.raises(SystemExit):
        main(["digits", "--output", "x", "--shard", "2/2"])
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_protocol_is_an_error_and_no_traceback(tmp_path: Path, text: str) -> None:
    rows = RowFolder.open(tmp_path)
    (tmp_path / "protocol.json").write_text(text)
    with pytest.raises(StorageError, match="Choose another folder"):
        rows.bind({"table": "toy"})
