"""Spaces on the real digits with tiny numbers, ways to run them and to see what they leave."""

import contextlib
import fcntl
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from forks import forked_workers
from safetensors.torch import load_file

from schedsearch.cli.main import main
from schedsearch.records import TrialRecord

TESTS = Path(__file__).resolve().parent

TINY: dict[str, Any] = {
    "name": "tiny",
    "backbone": {
        "family": "dit",
        "config": {
            "input_size": 8,
            "patch_size": 2,
            "in_channels": 1,
            "hidden_size": 64,
            "depth": 10,
            "num_heads": 4,
            "num_classes": 10,
            "learn_sigma": False,
        },
        "checkpoint": "package:digits_dit.safetensors",
    },
    "data": {"source": "digits"},
    "space": {"num_intervals": 10, "min_depth": 2, "max_depth": 10},
    "warm_start": ["full", "D2-DiT", "D3-DiT", "D4-DiT"],
    "recipe": {"num_steps": 2, "batch_size": 64, "lr": 5.0e-4},
    "profile": None,
    "plan": None,
    "solver": {"name": "dpm_solver", "num_steps": 3},  # calls in the intervals 9, 6 and 3
    "evaluation": {
        "num_samples": 64,
        "features": "digits",
        "latency_repeats": 3,
        "latency_batch": 8,
        "confirm_seeds": 0,
    },
    "search": {"n_trials": 7, "sampler": "uniform", "seed": 0},
    "resources": {"backend": "local", "num_workers": 1},
}


def tiny_space(**changes: Any) -> dict[str, Any]:
    """The tiny space with keys of its sections replaced."""
    data: dict[str, Any] = json.loads(json.dumps(TINY))
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            data[key].update(value)
        else:
            data[key] = value
    return data


def write_space(folder: Path, **changes: Any) -> Path:
    """Write :func:`tiny_space` to ``folder/space.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(tiny_space(**changes), sort_keys=False))
    return path


def faulty_space(folder: Path, faults: Mapping[int, str], **changes: Any) -> Path:
    """A space whose trainer fails for some schedules, by their deepest depth.

    See ``faulty_trainers``; traces of the trainings lie in ``folder/traces``.
    """
    traces = folder / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    extra = {
        "traces": str(traces),
        "faults": {f"depth_{depth}": name for depth, name in faults.items()},
    }
    recipe = {"save_every": 1, "extra": extra, **changes.pop("recipe", {})}
    changes.setdefault("warm_start", [])
    return write_space(folder, trainer="faulty_trainers:Faulty", recipe=recipe, **changes)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_cli(*argv: object) -> Done:
    """Run a command in this process; local workers are forks of it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), forked_workers():
        code = main([str(word) for word in argv])
    return Done(code, out.getvalue(), err.getvalue())


def records_of(run: Path) -> list[TrialRecord]:
    """The lines of ``results.jsonl``."""
    path = run / "results.jsonl"
    text = path.read_text() if path.exists() else ""
    return [TrialRecord.from_json(line) for line in text.splitlines()]


def trainings(folder: Path) -> list[tuple[int, ...]]:
    """Schedules of all fine-tunes that the faulty trainer began."""
    path = folder / "traces" / "trained.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def contents(root: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file, but for the memory that SQLite's processes share."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in (root, *root.rglob("*"))
        if not path.name.endswith("-shm")
    }


def same_weights(a: Path, b: Path) -> bool:
    """Whether two safetensors files hold equal tensors of the same names."""
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@contextlib.contextmanager
def only_once(root: Path, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder that the workers of pytest-xdist share, and whether it is still to be filled."""
    with (root / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder, made = root / name, root / f"{name}.made"
        yield folder, not made.exists()
        made.touch()


def wait_until(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    """Wait for something that another process does."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def children_of(pid: int) -> set[int]:
    """Processes below a process, now."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            parents[int(status.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
