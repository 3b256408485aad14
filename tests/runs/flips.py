"""Flips bits in the files of a finished run and says what the commands make of them.

``PYTHONPATH=.:tests python tests/runs/flips.py 100`` prints a table for 100 flips of every file.
"""

import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from schedsearch.cli.main import main
from schedsearch.planning.error_table import ErrorTable
from schedsearch.workers.progress import FileProgress

FOUND, SAME, FRONT, REPORT, DEFECT = (
    "found",
    "harmless",
    "another front",
    "another report",
    "code 1",
)
"""What a flip does. ``another front`` also stands for another state or other weights."""

FILES = (
    "results.jsonl", "confirmation.jsonl", "rivals.jsonl", "plans.jsonl", "latency.json",
    "methods/latency.json", "costs.json", "space.yaml",
)  # fmt: skip
"""Files that the commands below read."""

FRONTS = (("front", "--format", "json"), ("front", "--methods", "all", "--format", "json"))
REPORTS = (("front",), ("status",))


def command(run: Path, words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and standard output of a reading command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([words[0], str(run), *words[1:]])
    return code, out.getvalue()


def flips(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies with one bit flipped each."""
    rng = random.Random(seed)
    for _ in range(count):
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        yield content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def shown(run: Path) -> dict[tuple[str, ...], tuple[int, str]]:
    """What all commands say of a run."""
    return {words: command(run, words) for words in (*FRONTS, *REPORTS)}


def verdict(before: dict[tuple[str, ...], tuple[int, str]], run: Path) -> str:
    """What a damaged run shows, compared with what it showed before."""
    kinds = []
    for words, (_, text) in before.items():
        code, now = command(run, words)
        if code not in (0, 2, 4, 5):
            kinds.append(DEFECT)
        elif code == 0 and now != text:
            kinds.append(FRONT if words in FRONTS else REPORT)
        else:
            kinds.append(SAME if code == 0 else FOUND)
    return next(kind for kind in (DEFECT, FRONT, REPORT, FOUND, SAME) if kind in kinds)


def flipped_run(run: Path, name: str, count: int, seed: int = 0) -> Counter[str]:
    """Flip bits of one file of a run, which may be changed."""
    path, counts, before = run / name, Counter[str](), shown(run)
    content = path.read_bytes()
    for damaged in flips(content, count, seed):
        path.write_bytes(damaged)
        counts[verdict(before, run)] += 1
    path.write_bytes(content)
    return counts


def flipped_state(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Flip bits of a saved state, and restore from it."""
    state = {"step": 1, "ema": {"w": torch.randn(64, generator=torch.Generator().manual_seed(0))}}
    FileProgress(folder, save_every=1).save(1, lambda: state)
    path, counts = folder / "progress.pt", Counter[str]()
    for damaged in flips(path.read_bytes(), count, seed):
        path.write_bytes(damaged)
        found = FileProgress(folder, save_every=1).restore()
        counts[FOUND if found is None else SAME if _equal(found, state) else FRONT] += 1
    return counts


def _equal(found: dict[str, Any], state: dict[str, Any]) -> bool:
    try:
        return found["step"] == 1 and torch.equal(found["ema"]["w"], state["ema"]["w"])
    except (KeyError, TypeError, RuntimeError):
        return False


def flipped_table(run: Path, count: int, seed: int = 0) -> Counter[str]:
    """Flip bits of the error table, and load it: a damaged one is measured again."""
    path, counts = run / "profile/error_table.json", Counter[str]()
    content, before = path.read_bytes(), ErrorTable.load(path)
    for damaged in flips(content, count, seed):
        path.write_bytes(damaged)
        try:
            counts[SAME if ErrorTable.load(path) == before else FRONT] += 1
        except ValueError:
            counts[FOUND] += 1
    path.write_bytes(content)
    return counts


def flipped_weights(run: Path, trial: int, count: int, seed: int = 0) -> Counter[str]:
    """Flip bits of a trial's weights, and export them."""
    path, counts = run / f"trials/{trial:04d}/ema.safetensors", Counter[str]()
    content = path.read_bytes()
    target = run.parent / "exported.safetensors"
    words = ("export", "--trial", str(trial), "-o", str(run.parent / "exported.yaml"))
    before = _tensors(path)
    for damaged in flips(content, count, seed):
        path.write_bytes(damaged)
        code, _ = command(run, (*words, "--weights", str(target)))
        if code:
            counts[FOUND if code in (2, 5) else DEFECT] += 1
        else:
            found = _tensors(target)
            same = found.keys() == before.keys() and all(
                torch.equal(found[name], before[name]) for name in before
            )
            counts[SAME if same else FRONT] += 1
    path.write_bytes(content)
    return counts


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return load(path.read_bytes())  # NOTE: a mapped file would change with its damage


def small_run(folder: Path) -> Path:
    """A finished run with plans, an error table and confirmations."""
    from tiny_runs import run_cli, write_space

    space = write_space(
        folder,
        evaluation={"confirm_seeds": 2, "auditor": None},
        plan={"targets": [0.7], "fit_images": 8, "table_images": 8, "weight_images": 8},
        profile={"num_images": 16},
        search={"n_trials": 6, "dp_seeds": 1},
    )
    done = run_cli("run", space, "--output", folder / "run")
    assert done.code == 0, done.err
    return folder / "run"


def table(count: int) -> Iterator[str]:
    """The table of all files, line by line."""
    kinds = (FOUND, SAME, FRONT, REPORT, DEFECT)
    yield f"{'file':<28}" + "".join(f"{kind:>16}" for kind in kinds)
    with tempfile.TemporaryDirectory() as work:
        run = small_run(Path(work))
        made: dict[str, Callable[[], Counter[str]]] = {
            name: (lambda name=name: flipped_run(run, name, count))  # type: ignore[misc]
            for name in FILES
        }
        made["profile/error_table.json"] = lambda: flipped_table(run, count)
        state = Path(work) / "state"
        state.mkdir()
        made["progress.pt"] = lambda: flipped_state(state, count)
        made["trials/0001/ema.safetensors"] = lambda: flipped_weights(run, 1, count)
        for name, flip in made.items():
            counts = flip()
            yield f"{name:<28}" + "".join(f"{counts[kind]:>16}" for kind in kinds)
        shutil.rmtree(run)


if __name__ == "__main__":
    for line in table(int(sys.argv[1])):
        print(line, flush=True)
