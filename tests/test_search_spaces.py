"""Every search space that ships parses, builds, and can be started as its header says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.backbones.registry import build_backbone
from schedsearch.config import InvalidFileError, read_settings, settings_from_text, shipped_spaces
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.flops import count_flops, count_parameters
from schedsearch.schedules.hand_made import HAND_MADE, MOVED, preset_for, presets
from schedsearch.settings import StudySettings

SPACES = shipped_spaces()

BRINGS_ITS_FILES = {"digits_dit"}
"""Spaces whose data and weights ship too; the others name files that their users bring."""

BRINGS_WEIGHTS = BRINGS_ITS_FILES | {"mnist_dit", "tiles_sit"}

NETS = {  # parameters, shape of an input, exits, real classes, label of "no class"
    "digits_dit": (777_092, (1, 8, 8), 10, 10, 10),
    "dit_xl2_imagenet256": (674_834_720, (4, 32, 32), 28, 1000, 1000),
    "sit_xl2_imagenet256": (674_834_720, (4, 32, 32), 28, 1000, 1000),
    "uvit_s4_celeba64": (44_292_228, (3, 64, 64), 6, None, None),
    "cifar10_uvit": (44_255_328, (3, 32, 32), 6, None, None),
    "mnist_dit": (1_730_128, (1, 28, 28), 10, 10, 10),
    "tiles_sit": (2_070_480, (3, 32, 32), 12, 5, 5),
    "mnist_uvit": (1_573_883, (1, 28, 28), 6, 10, 10),
}

USER_FILES = {
    "backbone.checkpoint",
    "data.path",
    "data.reference_path",
    "data.vae",
    "evaluation.features_path",
}


def settings_of(name: str) -> StudySettings:
    """The space, whether the user's files are there or not."""
    return settings_from_text(SPACES[name].read_text(encoding="utf-8"), SPACES[name].name)


def header_of(name: str) -> str:
    lines = SPACES[name].read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:end])


def command_of(name: str) -> list[str]:
    """The words of ``schedsearch run`` in the header, continued lines joined."""
    joined = header_of(name).replace("\\\n", " ")
    line = next(line for line in joined.splitlines() if line.startswith("schedsearch run"))
    return shlex.split(line)


def test_the_spaces_are_those_that_are_tested_here():
    assert set(SPACES) == set(NETS)


@pytest.mark.parametrize("name", NETS)
def test_its_network_builds(name):
    settings = settings_of(name)
    with torch.device("meta"):
        net = build_backbone(settings.backbone)
    parameters, in_shape, exits, num_classes, null_label = NETS[name]
    assert count_parameters(net) == parameters
    assert net.in_shape == in_shape
    assert net.num_exit_blocks == exits == settings.space.max_depth
    assert net.num_classes == num_classes
    if num_classes is not None:
        assert null_label_of(net) == null_label


@pytest.mark.parametrize("name", NETS)
def test_its_solver_fits_the_process_and_visits_every_interval(name):
    settings = settings_of(name)
    with torch.device("meta"):
        net = build_backbone(settings.backbone)
    solver = build_solver(
        settings.solver,
        build_process(settings.diffusion),
        learned_variance=learns_variance(net),
    )
    assert len(solver.times) == settings.solver.num_steps
    assert {min(9, int(t // 100)) for t in solver.times} == set(range(10))


@pytest.mark.parametrize("name", NETS)
def test_its_warm_starts_are_the_papers_and_lie_in_the_space(name):
    settings = settings_of(name)
    space = settings.space.build()
    suffix = "-U-ViT" if "uvit" in name else "-DiT"
    moved = MOVED if settings.diffusion.process == "flow" else ""
    expected = [preset + moved for preset in HAND_MADE if preset.endswith(suffix)]
    assert list(settings.warm_start) == ["full", *expected]
    schedules = [
        preset_for(preset, NETS[name][2], min_depth=space.min_depth) for preset in expected
    ]
    assert [space.why_not(schedule) for schedule in schedules] == [None] * len(schedules)
    assert len(set(schedules)) == len(schedules) < settings.search.n_trials


@pytest.mark.parametrize("name", NETS)
def test_the_header_says_what_it_costs_and_what_to_expect(name):
    header = header_of(name)
    assert "Cost:" in header
    assert "Expect:" in header
    if name not in BRINGS_ITS_FILES:
        assert "You need" in header
    if name not in BRINGS_ITS_FILES | {"mnist_uvit", "tiles_sit"}:  # these were run
        assert "estimate" in header.partition("Cost:")[2]


@pytest.mark.parametrize("name", sorted(set(NETS) - BRINGS_ITS_FILES))
def test_only_the_users_files_are_missing(name):
    with pytest.raises(InvalidFileError) as caught:
        read_settings(name)
    keys = {problem.key for problem in caught.value.problems}
    assert keys <= USER_FILES
    assert "data.path" in keys
    assert ("backbone.checkpoint" in keys) == (name not in BRINGS_WEIGHTS)


@pytest.mark.parametrize("name", NETS)
def test_the_command_of_the_header_is_complete(name, tmp_path, monkeypatch):
    words = command_of(name)
    assert words[:3] == ["schedsearch", "run", name]
    assert set(words[3::2]) <= {"-o"}
    overrides = words[4::2]
    for override in overrides:  # what the header lists under "You need"
        key, _, file = override.partition("=")
        assert key in USER_FILES
        assert file in header_of(name).partition("You need")[2]
        make_file(tmp_path / file)
    monkeypatch.chdir(tmp_path)
    settings = read_settings(name, overrides)
    paths = {settings.evaluation.features_path: BRINGS_ITS_FILES | {"tiles_sit"}}
    paths[settings.backbone.checkpoint] = BRINGS_WEIGHTS
    for path, brought in paths.items():
        assert name in brought or (path is not None and Path(path).is_relative_to(tmp_path))


def make_file(path: Path) -> None:
    """A stand-in that exists; its content is of no interest before the run."""
    if path.suffix:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights")
        return
    path.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):  # as an autoencoder has
        (path / name).write_bytes(b"")


@pytest.mark.parametrize("name", ["uvit_s4_celeba64", "cifar10_uvit", "mnist_uvit"])
def test_the_savings_in_the_header_are_those_of_its_solver(name):
    settings = settings_of(name)
    solver = build_solver(settings.solver, build_process(settings.diffusion))
    with torch.device("meta"):
        table = count_flops(build_backbone(settings.backbone))
    percent = [
        round(100 * table.saving(HAND_MADE[preset].schedule, solver.times))
        for preset in settings.warm_start
        if preset in HAND_MADE
    ]
    text = " ".join(header_of(name).split())
    assert re.search(rf"save {percent[0]}, {percent[1]}, {percent[2]} and {percent[3]} %", text)


def test_the_savings_in_the_header_of_dit_are_those_of_its_solver():
    settings = settings_of("dit_xl2_imagenet256")
    process = build_process(settings.diffusion)
    solver = build_solver(settings.solver, process, learned_variance=True)
    saved = [
        1 - sum(HAND_MADE[name].schedule.visited(solver.times)) / (28 * len(solver.times))
        for name in ("D2-DiT", "D3-DiT")
    ]
    text = " ".join(header_of("dit_xl2_imagenet256").split())
    assert f"save about {saved[0]:.0%} and {saved[1]:.0%}".replace("%", " %") in text


def test_the_savings_in_the_header_of_sit_are_those_of_its_solver():
    settings = settings_of("sit_xl2_imagenet256")
    solver = build_solver(settings.solver, build_process(settings.diffusion))
    saved = [
        round(100 * (1 - sum(presets[name].visited(solver.times)) / (28 * len(solver.times))))
        for name in settings.warm_start[1:]
    ]
    text = " ".join(header_of("sit_xl2_imagenet256").split())
    assert f"about {saved[0]}, {saved[1]}, {saved[2]} and {saved[3]} % of the blocks" in text
