"""Kills drivers and workers at random and checks what a run promises after each kill.

``python tests/faults/soak.py --kills 500 --output soak.jsonl`` needs the folder of the tests on
its path. Every run adds a line to the file, so the same command goes on where it was stopped.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from forks import ForkedCli
from safetensors.torch import load_file
from tiny_runs import children_of, faulty_space, is_alive, run_cli, trainings

sys.path.append(str(Path(__file__).resolve().parents[1] / "search"))

from whole_runs import check_promises, optuna_trials

from schedsearch.records import TrialRecord

STUCK_AFTER = 1200.0
"""Wall-clock seconds; the longest run takes about ten on an idle core."""

KILLS_PER_RUN = 10
PAUSE = 0.4
"""Longest CPU time between two kills, as a share of an undisturbed run's."""

PAUSE_WITH_RAY = 1.0
"""The same where half of a run is the start of Ray."""

WARM = ["full", "D2-DiT", "D3-DiT"]

QUICK = {"num_samples": 16, "latency_batch": 1, "auditor": None}

KINDS: dict[str, dict[str, Any]] = {
    "local, 1 worker": {"search": {"n_trials": 5}},
    "local, 2 workers": {"search": {"n_trials": 5}, "resources": {"num_workers": 2}},
    "local, all stages": {
        "search": {"n_trials": 4, "sampler": "additive", "dp_seeds": 1},
        "profile": {"num_images": 4},
        "evaluation": {"confirm_seeds": 1},
        "resources": {"num_workers": 2},
    },
    "ray": {"search": {"n_trials": 4}, "resources": {"backend": "ray"}},
}
"""Changes of the tiny space by the name of the kind of run."""

COUNTS = ("driver_kills", "worker_kills", "lost", "duplicated", "stuck", "corrupt")


@dataclass
class Episode:
    """One run with its kills, and what was wrong after them."""

    seed: int
    number: int
    kind: str
    driver_kills: int = 0
    worker_kills: int = 0
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    corrupt: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.driver_kills + self.worker_kills

    def blame(self, count: str, problem: str) -> None:
        setattr(self, count, getattr(self, count) + 1)
        self.problems.append(problem)


def space_of(folder: Path, kind: str) -> Path:
    """The tiny space of a kind, whose trainings leave a trace."""
    changes = {
        "warm_start": WARM,
        **KINDS[kind],
        "evaluation": {**QUICK, **KINDS[kind].get("evaluation", {})},
        "recipe": {"num_steps": 3, "batch_size": 8},
    }
    path = faulty_space(folder, {}, **changes)
    data = yaml.safe_load(path.read_text())
    data["search"]["max_retries"] = 50  # a killed worker is no failed trial here
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def results_of(run: Path) -> dict[tuple[int, ...], tuple[Any, ...]]:
    """What a schedule's training and evaluation gave, without latencies and times."""
    return {
        r.depths: (
            r.evaluation.fid,
            r.evaluation.kid,
            r.evaluation.sample_std,
            r.final_loss,
            weights_digest(run / "trials" / f"{r.number:04d}" / "ema.safetensors"),
        )
        for r in whole_lines(run)
        if r.evaluation is not None
    }


def weights_digest(path: Path) -> str:
    """Digest of the values of a weights file, whatever its header says of the trial."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def whole_lines(run: Path) -> list[TrialRecord]:
    """The lines that ended; a kill may leave half a line after them."""
    path = run / "results.jsonl"
    text = path.read_text() if path.exists() else ""
    return [TrialRecord.from_json(line) for line in text.split("\n")[:-1]]


def processes_of(pid: int) -> set[int]:
    """A process and all below it; many times faster than looking at every process."""
    found = {pid}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found |= processes_of(int(child))
    return found


def cpu_seconds(driver: int) -> float:
    """CPU time of a driver and all below it, those that ended included."""
    total = 0
    for pid in processes_of(driver):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def workers_of(driver: int, kind: str) -> list[int]:
    """Processes that train and measure."""
    below = sorted(children_of(driver))
    if kind != "ray":
        return below
    titles = {}
    for pid in below:
        with contextlib.suppress(OSError):
            titles[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [pid for pid, title in titles.items() if title.startswith(b"ray::Implicit")]


class Soak:
    """Runs of random kinds with random kills, one after the other.

    Args:
        seed: Chooses kinds, victims and times.
        kinds: Kinds of runs to choose from.
    """

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self.seed = seed
        self.kinds = kinds
        self._undisturbed: dict[str, tuple[float, dict[tuple[int, ...], Any]]] = {}

    def undisturbed(self, kind: str) -> tuple[float, dict[tuple[int, ...], Any]]:
        """CPU-seconds and results of a run without kills."""
        if kind not in self._undisturbed:
            with tempfile.TemporaryDirectory() as work:
                space, run = space_of(Path(work), kind), Path(work) / "run"
                driver = ForkedCli("run", space, "--output", run, log=Path(work) / "log.txt")
                used = 0.0
                while is_alive(driver.pid):
                    used = max(used, cpu_seconds(driver.pid))
                    time.sleep(0.1)
                assert driver.wait() == 0, (Path(work) / "log.txt").read_text()
                self._undisturbed[kind] = used, results_of(run)
        return self._undisturbed[kind]

    def episode(self, number: int, most_kills: int) -> Episode:
        """One run that is killed at most so often, and then ends."""
        rng = random.Random(f"{self.seed}-{number}")
        kind = self.kinds[number % len(self.kinds)]
        episode = Episode(self.seed, number, kind)
        length, _ = self.undisturbed(kind)
        longest = length * (PAUSE_WITH_RAY if kind == "ray" else PAUSE)
        work = Path(tempfile.mkdtemp(prefix="soak-"))
        space, run, log = space_of(work, kind), work / "run", work / "log.txt"
        kept: list[str] = []
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            driver = ForkedCli("run", space, "--output", run, log=log)
            known: set[int] = set()
            while episode.kills < most_kills and self._wait(driver.pid, rng.uniform(0, longest)):
                known |= children_of(driver.pid)
                victims = workers_of(driver.pid, kind)
                if victims and rng.random() < 0.5:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rng.choice(victims), signal.SIGKILL)
                        episode.worker_kills += 1
                else:
                    os.kill(driver.pid, signal.SIGKILL)
                    episode.driver_kills += 1
                    break
            code = self._end(driver, known, episode)
            kept = self._check_lines(run, kept, episode)
            if episode.stuck:
                break
        if not episode.stuck:
            self._check_end(code, space, run, log, episode)
        if episode.problems:
            episode.problems.append(f"kept: {work}")
        else:
            shutil.rmtree(work)
        return episode

    def _wait(self, driver: int, cpu: float) -> bool:
        """Let the run use so much CPU time; False if it ended before."""
        until, end = cpu_seconds(driver) + cpu, time.monotonic() + STUCK_AFTER
        while is_alive(driver) and time.monotonic() < end:
            if cpu_seconds(driver) >= until:
                return True
            time.sleep(0.1)
        return False

    def _end(self, driver: ForkedCli, known: set[int], episode: Episode) -> int:
        """Exit code of a driver, once all its processes are gone too."""
        try:
            code = driver.wait(timeout=STUCK_AFTER)
        except AssertionError:
            episode.blame("stuck", f"the driver still ran after {STUCK_AFTER:.0f} s")
            known |= children_of(driver.pid)
            os.kill(driver.pid, signal.SIGKILL)
            code = driver.wait()
        end = time.monotonic() + STUCK_AFTER / 4
        while any(map(is_alive, known)) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in filter(is_alive, known):
            episode.blame("stuck", f"process {pid} outlived its driver")
            os.kill(pid, signal.SIGKILL)
        return code

    def _check_lines(self, run: Path, kept: list[str], episode: Episode) -> list[str]:
        """Every line that was whole before is there, and every line can be read."""
        path = run / "results.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        if lines[: len(kept)] != kept:
            episode.blame("lost", f"{len(kept)} lines were there, now they are other ones")
        try:
            records = whole_lines(run)
        except ValueError as error:
            episode.blame("corrupt", f"results.jsonl: {error}")
            return lines
        for values in ([r.number for r in records], [r.depths for r in records if r.complete]):
            if twice := [value for value, n in Counter(values).items() if n > 1]:
                episode.blame("duplicated", f"twice in results.jsonl: {twice}")
        return lines

    def _check_end(self, code: int, space: Path, run: Path, log: Path, episode: Episode) -> None:
        """What a run keeps is whole, agrees, and is what an undisturbed run gives."""
        if code != 0 or "Traceback" in log.read_text():
            episode.blame("stuck", f"exit code {code}: {log.read_text()[-500:]}")
            return
        n_trials = yaml.safe_load(space.read_text())["search"]["n_trials"]
        try:
            check_promises(run, n_trials)
            assert not list(run.rglob("*.corrupt"))
            assert run_cli("front", run, "--format", "json").code == 0
            assert run_cli("status", run).code == 0
            self._check_results(space, run, episode)
        except Exception as error:  # noqa: BLE001 - whatever cannot be read is damaged
            where = traceback.format_exception(error)[-2].strip()
            episode.blame("corrupt", f"{type(error).__name__}: {error} ({where})")

    def _check_results(self, space: Path, run: Path, episode: Episode) -> None:
        _, undisturbed = self.undisturbed(episode.kind)
        results = results_of(run)
        firsts = list(undisturbed)[: len(WARM)]  # what is proposed later follows trial numbers
        if missing := [depths for depths in firsts if depths not in results]:
            episode.blame("lost", f"warm starts without a result: {missing}")
        for depths in results.keys() & undisturbed.keys():
            if results[depths] != undisturbed[depths]:
                found, expected = results[depths], undisturbed[depths]
                episode.blame("corrupt", f"{depths}: {found}, but undisturbed {expected}")
        begun = Counter(trainings(space.parent))
        again = Counter(
            tuple(t.user_attrs["depths"])
            for t in optuna_trials(run)
            if "interrupted" in t.user_attrs and "depths" in t.user_attrs
        )
        for depths in results:
            if begun[depths] > 1 + again[depths]:
                episode.blame("duplicated", f"{depths} was trained {begun[depths]} times")


def totals(output: Path) -> Counter[str]:
    """Sums over the lines of a file of counts."""
    sums = Counter[str]()
    for line in output.read_text().splitlines() if output.exists() else []:
        row = json.loads(line)
        sums["runs"] += 1
        for name in COUNTS:
            sums[name] += row[name]
    return sums


def soak(kills: int, output: Path, seed: int, kinds: tuple[str, ...]) -> Counter[str]:
    """Go on until the file counts so many kills."""
    work = Soak(seed, kinds)
    sums = totals(output)
    while (left := kills - sums["driver_kills"] - sums["worker_kills"]) > 0:
        episode = work.episode(sums["runs"], min(left, KILLS_PER_RUN))
        with output.open("a") as handle:
            handle.write(json.dumps(asdict(episode)) + "\n")
        sums = totals(output)
        print(", ".join(f"{name} {sums[name]}" for name in ("runs", *COUNTS)), flush=True)
    return sums


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(["0", "1", "2"] * 3 + ["3"]))
    given = parser.parse_args()
    names = tuple(list(KINDS)[int(index)] for index in given.kinds.split(","))
    counts = soak(given.kills, given.output, given.seed, names)
    sys.exit(any(counts[name] for name in ("lost", "duplicated", "stuck", "corrupt")))
