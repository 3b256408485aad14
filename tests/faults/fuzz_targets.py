"""What is fuzzed: a valid file of each kind, and what reads it."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from damage import Step, damaged_bytes, damaged_value, json_document, json_line
from driving import confirm_of, record_of, settings_of
from made_up_methods import RATIOS, ROWS, latency_of
from safetensors.torch import save
from tiny_runs import tiny_space

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.cli.main import main
from schedsearch.config import dump_settings, read_settings
from schedsearch.exceptions import SchedSearchError
from schedsearch.files.checksums import sealed_yaml
from schedsearch.methods.kinds import build_method
from schedsearch.methods.method_file import read_method_file
from schedsearch.planning.error_table import ErrorTable
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.costs import Costs, StageCost
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency
from schedsearch.schedules.schedule_file import read_schedule_file
from schedsearch.workers.progress import FileProgress

ROOT = Path(__file__).resolve().parents[2]

Make = Callable[[list[Step], list[Step]], bytes]
"""Content of a damaged file: values are damaged first, then bytes."""


class RefusedError(Exception):
    """A command ended with a documented code; the message is its last line."""


@dataclass(frozen=True)
class Target:
    """A kind of file."""

    name: str
    """Of the file; a refusal contains it."""
    make: Make
    read: Callable[[Path], object]
    """Reads the file of that name in a folder."""
    prepare: Callable[[Path], None] = lambda folder: None
    """Writes the other files of the folder."""
    has_lines: bool = False
    """Whether a refusal names a line too."""
    refusals: tuple[type[Exception], ...] = (SchedSearchError,)


# ---- YAML -------------------------------------------------------------------------------------


def _yaml(*texts: str, seal: bool = False) -> Make:
    """The first step chooses the text, and whether its values are damaged or its bytes alone."""

    def make(values: list[Step], raw: list[Step]) -> bytes:
        text = texts[sum(place for _, place, _ in values) % len(texts)]
        if values[0][2] % 2:
            data = damaged_value(yaml.safe_load(text), values)
            with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError):
                text = yaml.safe_dump(data, sort_keys=False, allow_unicode=values[0][2] % 4 == 1)
        content = damaged_bytes(text.encode("utf-8", "surrogatepass"), raw)
        if seal and values[-1][1] % 4:
            content = sealed_yaml(content.decode("utf-8", "replace")).encode()
        return content

    return make


_SPACES = (
    yaml.safe_dump(tiny_space(), sort_keys=False),
    (ROOT / "search_spaces/digits_dit.yaml").read_text(),
    (ROOT / "benchmarks/spaces/rivals_digits.yaml").read_text(),
)

_SCHEDULE = """\
schema: schedsearch.schedule/2
name: mine
backbone: {family: dit, num_exit_blocks: 10, fingerprint: "sha256:0123"}
depths: [10, 10, 9, 9, 8, 8, 7, 7, 6, 6]
edges: [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 1000.0]
clock: flow
weights: mine.safetensors
measured: {fid: 1.5, latency_ms: 20.0}
provenance: {tool: schedsearch}
"""

_METHODS = (
    "{kind: plan, numbers: {steps: [full, reuse 4 plain, exit 5 map, full], times: [9, 6, 3, 1]}}",
    "{kind: uncertainty, numbers: {threshold: 0.1}}",
    "{kind: block_cache, numbers: {parts: [attention], every: 2}}",
    "{kind: tome, numbers: {ratio: 0.5}}",
    "{kind: schedule, numbers: {depths: [10, 9, 8]}}",
)


def _method_text(text: str) -> str:
    head = {"schema": "schedsearch.method/1", "name": "m"}
    backbone = {"family": "dit", "num_exit_blocks": 10}
    rest = {"solver": "ddim", "num_steps": 4, **yaml.safe_load(text)}
    return yaml.safe_dump({**head, "backbone": backbone, **rest}, sort_keys=False)


def _read_method(path: Path) -> None:
    file = read_method_file(path)
    try:
        build_method(file.kind, file.numbers, None, file.backbone.num_exit_blocks)
    except SchedSearchError as error:  # its caller names the file
        raise type(error)(f"{path.name}: {error}") from error


# ---- files of a run ---------------------------------------------------------------------------


_RECORDS = [record_of(n, (10 - n,) * 10, 5.0 + n, 90.0 - 9 * n) for n in range(4)]
_CONFIRMATIONS = [confirm_of(n, seed, 5.0 + n + seed) for n in range(4) for seed in (1, 2)]
_LATENCIES = LatencyReport(
    table={"a_ms": 1.0, "b_ms": 1.0, "c0_ms": 1.0},
    full_ms=90.0,
    measured={
        n: MeasuredLatency(latency_ms=90.0 - n, half_width_ms=0.4, acceleration=0.1 * n, repeats=9)
        for n in range(4)
    },
    full_measured_ms=90.0,
    measured_after=4,
    visits=(0, 0, 0, 1, 0, 0, 1, 0, 0, 1),
)
_COSTS = Costs(12.0, 0.0, {"trials": StageCost(jobs=4, device_seconds=9.0)})
_IDENTITY = RunIdentity(
    data="d", num_images=9, reference="r", num_reference_images=9, extractor="e", run_id="0"
)
_TABLE = ErrorTable(
    depths=(2, 6, 10),
    losses=((0.3, 0.2, 0.1),) * 10,
    standard_errors=((0.0,) * 3,) * 10,
    exits="uniform",
    num_steps=1,
    num_images=1,
    seed=0,
    seconds=0.0,
)


def _run(folder: Path) -> None:
    """A run folder with every file, made by hand."""
    run = RunFolder(folder)
    run.create()
    run.methods.mkdir(exist_ok=True)
    run.profile.mkdir(exist_ok=True)
    settings = settings_of(evaluation={"confirm_seeds": 2})
    run.space_file.write_text(sealed_yaml(dump_settings(settings)))
    for path, records in (
        (run.results_file, _RECORDS),
        (run.confirmation_file, _CONFIRMATIONS),
        (run.rivals_file, ROWS),
    ):
        path.write_text("".join(record.to_json() + "\n" for record in records))
    run.method_latency_file.write_text(json_document(latency_of(RATIOS)))
    _LATENCIES.save(run)
    _COSTS.save(run)


def _command(*words: str) -> Callable[[Path], None]:
    """A command on the run folder of a file; a documented code is a refusal."""

    def read(path: Path) -> None:
        root = next(parent for parent in path.parents if (parent / "trials").is_dir())
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([words[0], str(root), *words[1:]])
        if code in (2, 4, 5):
            raise RefusedError(err.getvalue())
        if code:
            raise AssertionError(f"exit code {code}: {err.getvalue()}")

    return read


def _lines(records: list[Any]) -> Make:
    """Lines of JSON; the values of one are damaged, and its checksum is made right again."""
    data = [json.loads(record.to_json()) for record in records]
    for row in data:
        row.pop("checksum")

    def make(values: list[Step], raw: list[Step]) -> bytes:
        damaged = damaged_value(data, values) if values[0][2] % 4 else data
        rows = damaged if isinstance(damaged, list) else [damaged]
        return damaged_bytes("".join(json_line(row) + "\n" for row in rows).encode(), raw)

    return make


def _document(data: dict[str, Any]) -> Make:
    def make(values: list[Step], raw: list[Step]) -> bytes:
        damaged = damaged_value(data, values) if values[0][2] % 8 else data
        return damaged_bytes(json_document(damaged).encode(), raw)

    return make


_FRONT = _command("front", "--methods", "all", "--format", "json")

# ---- weights ----------------------------------------------------------------------------------

_NET = {"input_size": 4, "patch_size": 2, "in_channels": 1, "hidden_size": 8, "depth": 2}


def _net() -> DiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DiT(**_NET, num_heads=2, num_classes=3, learn_sigma=False)


_STATE = _net().state_dict()
_TENSORS: tuple[Any, ...] = (
    torch.tensor(float("nan")), torch.zeros(0), torch.zeros(3, 3), torch.ones(2, dtype=torch.int8),
    torch.ones(2, dtype=torch.bool), torch.full((8,), float("inf")), torch.zeros(8, 1, 2, 2) * 1j,
    torch.zeros(2).to_sparse(), torch.zeros(1).expand(8, 10**9), torch.zeros(8, device="meta"),
    torch.zeros(3, 8).bfloat16(), torch.zeros(4, 8).to(torch.float8_e4m3fn), None, 1, "x", [], {},
    {"a": 1}, 10**400, "\ud800", float("nan"), {"ema": {}}, {"model": dict(_STATE)},
)  # fmt: skip


def _torch_file(values: list[Step], raw: list[Step]) -> bytes:
    content: Any = {"ema": dict(_STATE), "args": {"model": "DiT-S/2", "num_classes": 3}}
    content = content if values[0][2] % 2 else dict(_STATE)
    if values[0][2] % 8:
        content = damaged_value(content, values, _TENSORS)
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=values[0][1] % 4 != 0)
    return damaged_bytes(file.getvalue(), raw)


def _safetensors(values: list[Step], raw: list[Step]) -> bytes:
    content: Any = damaged_value(dict(_STATE), values, _TENSORS)
    if not isinstance(content, dict):
        content = {}
    tensors = {
        str(name): value.contiguous()
        for name, value in content.items()
        if isinstance(value, torch.Tensor) and value.layout == torch.strided
        if value.device.type == "cpu" and value.numel() < 10**6 and not value.is_complex()
    }
    metadata = {"schedsearch.fingerprint": "0"} if values[0][1] % 4 == 0 else None
    whole = save({n.encode("utf-8", "replace").decode(): t for n, t in tensors.items()}, metadata)
    if values[0][2] % 3:
        return damaged_bytes(whole, raw)
    size = int.from_bytes(whole[:8], "little")
    header = damaged_value(json.loads(whole[8 : 8 + size]), values)
    text = json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + whole[8 + size :]


def _progress(values: list[Step], raw: list[Step]) -> bytes:
    return damaged_bytes(_torch_file(values, []), raw)


def _restore(path: Path) -> None:
    FileProgress(path.parent, save_every=1).restore()


def _weights(path: Path) -> None:
    load_weights(_net(), path)


TARGETS = (
    Target("space.yaml", _yaml(*_SPACES), read_settings, has_lines=True),
    Target("mine.yaml", _yaml(_SCHEDULE), read_schedule_file, has_lines=True),
    Target("method.yaml", _yaml(*map(_method_text, _METHODS)), _read_method),
    Target(
        "run/space.yaml",
        _yaml(dump_settings(settings_of()), seal=True),
        _command("status"),
        lambda folder: RunFolder(folder).create(),
    ),
    Target("run/results.jsonl", _lines(_RECORDS), _FRONT, _run, True),
    Target("run/confirmation.jsonl", _lines(_CONFIRMATIONS), _FRONT, _run, True),
    Target("run/rivals.jsonl", _lines(ROWS), _FRONT, _run, True),
    Target("run/latency.json", _document(asdict(_LATENCIES)), _FRONT, _run),
    Target("run/methods/latency.json", _document(latency_of(RATIOS)), _FRONT, _run),
    Target(
        "run/costs.json",
        _document(asdict(_COSTS)),
        _command("status"),
        _run,
    ),
    Target(
        "run/run.json",
        _document(asdict(_IDENTITY)),
        lambda path: RunIdentity.read(RunFolder(path.parent)),
        _run,
    ),
    Target(
        "run/profile/error_table.json",
        _document(asdict(_TABLE)),
        ErrorTable.load,
        _run,
        refusals=(ValueError,),  # its caller measures the table again
    ),
    Target("net.safetensors", _safetensors, _weights),
    Target("net.pt", _torch_file, _weights),
    Target("progress.pt", _progress, _restore),
)
