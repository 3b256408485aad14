"""Settings for all tests."""

import errno
import os

# One thread per process, set before torch is imported: pytest-xdist runs a process per core, and
# threads that wait for each other's cores make everything many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_runs import only_once, run_cli, write_space


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of time unless ``-m timing`` asks for them, and put tests that fork first.

    Forks come before any test that runs a backward pass; see ``forks``.
    """
    if "timing" not in config.option.markexpr:
        timed = [item for item in items if item.get_closest_marker("timing") is not None]
        config.hook.pytest_deselected(items=timed)
        items[:] = [item for item in items if item not in timed]
    items.sort(key=lambda item: not _forks(item))


def _forks(item: pytest.Item) -> bool:
    names = {"ForkedCli", "run_cli", "forked_workers"}
    fixtures = {"complete_run", "run_copy"}
    module = getattr(item, "module", None)
    return bool(names & set(vars(module) if module else ())) or bool(
        fixtures & set(getattr(item, "fixturenames", ()))
    )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lives as long as the session, one for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def complete_run(shared_folder: Path) -> Path:
    """A finished run of the tiny space, made once per session; only to be read.

    Beside it lie ``space.yaml``, and ``out.txt`` and ``err.txt`` with what it printed.
    """
    with only_once(shared_folder, "complete") as (folder, is_new):
        if is_new:
            space = write_space(
                folder, evaluation={"confirm_seeds": 2}, resources={"num_workers": 2}
            )
            done = run_cli("run", space, "--output", folder / "run")
            assert done.code == 0, done.err
            (folder / "out.txt").write_text(done.out)
            (folder / "err.txt").write_text(done.err)
        return folder / "run"


@pytest.fixture
def run_copy(complete_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change; its space file lies beside it."""
    shutil.copy(complete_run.parent / "space.yaml", tmp_path / "space.yaml")
    return Path(shutil.copytree(complete_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny autoencoder with random weights: latents (4, 4, 4) <-> pixels (3, 8, 8)."""
    import torch
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            layers_per_block=1,
            sample_size=8,
        )
    folder = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(folder)
    return folder


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets whatever is written after the call find the disk full."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "fsync", full)


SCHEDULE_FILE = """\
schema: schedsearch.schedule/1
name: mine
backbone: {family: dit, num_exit_blocks: 10}
depths: [10, 10, 9, 9, 8, 8, 7, 7, 6, 6]
"""


@pytest.fixture
def schedule_file_with(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``mine.yaml``, a schedule file in which pairs of text are replaced."""

    def edit(*pairs: tuple[str, str]) -> Path:
        text = SCHEDULE_FILE
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return edit


@pytest.fixture(scope="session", autouse=True)
def _own_timing_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes of pytest-xdist do not wait for each other: "Waiting for ..." is on stderr."""
    folder = str(tmp_path_factory.mktemp("locks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("schedsearch.evaluation.timing_lock.gettempdir", lambda: folder)
        yield


@pytest.fixture(autouse=True)
def _no_handler_of_another_test() -> Iterator[None]:
    """Remove what a command left on the root logger: its stream is closed with the test."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in list(root.handlers):
        if handler not in before and type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
