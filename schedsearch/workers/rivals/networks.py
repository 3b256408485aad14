"""The network of a row: trained, or cut out of the pretrained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.config import read_sections
from schedsearch.config.rival_entries import merged_recipe, schedule_at
from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import write_text
from schedsearch.files.strict_json import to_document
from schedsearch.methods.exits.with_adapters import WithAdapters
from schedsearch.methods.networks import build_network
from schedsearch.runs.checks.identity import place_in, read_own
from schedsearch.runs.checks.own_weights import check_own_weights, mark_of
from schedsearch.runs.folder import NETWORK_FILE, STATE_FILE, RunFolder
from schedsearch.runs.methods.digests import entry_in, family_in, maker_in, network_digest_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings.rivals import (
    PrunedRival,
    RivalSettings,
    ScheduleRival,
    SimilarityRival,
    SmallRival,
    UncertaintyRival,
)
from schedsearch.settings.rows import Row
from schedsearch.workers.finetune import finetune
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.rivals.choices import chosen_blocks, narrowed
from schedsearch.workers.start_check import fitted_adapters
from schedsearch.workers.starts import early_exits_of
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.protocols import Backbone
    from schedsearch.settings import RecipeSettings
    from schedsearch.workers.jobs import NetworkJob
    from schedsearch.workers.workbench import Workbench

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """``network.json``: what a trained network is, and what it took."""

    digest: str
    """Of everything that it depends on."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """How it differs from the backbone, see :func:`schedsearch.methods.networks.build_network`."""
    samples: int = 0
    """Training samples seen."""
    seconds: float = 0.0
    """CPU-seconds of choosing and training."""


def network_folder(folder: RunFolder, net: str, training_seed: int) -> Path:
    """Where the network of some rows lies."""
    return folder.methods / "networks" / net / f"seed-{training_seed}"


def read_network(folder: RunFolder, path: Path) -> NetworkRecord | None:
    """The record of a finished network; None where there is none.

    Raises:
        StorageError: If it is damaged.
    """
    try:
        return NetworkRecord(**read_own(folder, path / NETWORK_FILE))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"Cannot read {path / NETWORK_FILE}: {error}. Delete the folder; it is made again."
        ) from error


def open_network(
    bench: Workbench, folder: RunFolder, row: Row, training_seed: int | None
) -> tuple[Backbone, NetworkRecord]:
    """The network that a row runs on, in eval mode on the study's device.

    Raises:
        StorageError: If the row needs a trained network that is not there.
    """
    if row.net is None:
        return bench.backbone, NetworkRecord(digest="")
    assert training_seed is not None
    path = network_folder(folder, row.net, training_seed)
    record = read_network(folder, path)
    wanted = network_digest_of(bench.settings, maker_in(bench.settings, row), training_seed)
    if record is None or record.digest != wanted:
        raise StorageError(
            f"The row {row.name} needs the network {row.net}, but {path} holds none: its "
            "training failed. Mend the cause and run the same command again."
        )
    check_own_weights(folder, path / WEIGHTS)
    return build_network(record.network, bench.fresh_backbone(), path / WEIGHTS), record


def _begin(path: Path, digest: str) -> None:
    """Drop what other settings left, so that no attempt continues from it."""
    marker = path / "settings.sha256"
    if not marker.exists() or marker.read_text(encoding="utf-8") != digest:
        for name in (NETWORK_FILE, WEIGHTS, STATE_FILE):
            (path / name).unlink(missing_ok=True)
        write_text(marker, digest)


def make_network(job: NetworkJob) -> None:
    """Train or cut the network of a row, unless its files are there.

    An attempt that died continues from its last saved state.

    Raises:
        TrialError: If training diverges.
        ConfigError: If the trainer or the choice does not fit the network.
        OSError: If the disk fails.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    assert job.row.net is not None
    path = network_folder(folder, job.row.net, job.training_seed)
    digest = network_digest_of(bench.settings, job.row, job.training_seed)
    kept = read_network(folder, path)
    if kept is not None and kept.digest == digest:
        return
    path.mkdir(parents=True, exist_ok=True)
    _begin(path, digest)
    entry = entry_in(bench.settings, job.row)
    recipe: RecipeSettings = read_sections(
        {"recipe": merged_recipe(bench.settings.recipe, entry)}
    )["recipe"]
    progress = FileProgress(
        path,
        save_every=recipe.save_every,
        stop_file=folder.stop_file,
        run=mark_of(folder),
    )
    progress.note(f"network of {job.row.name}, {digest}")
    net, network = _made(bench, job, entry, recipe, progress)
    save_weights(cast("nn.Module", net), path / WEIGHTS, {**mark_of(folder), "row": job.row.name})
    record = NetworkRecord(
        digest=digest,
        network=network,
        samples=recipe.num_steps * recipe.batch_size,
        seconds=round(progress.cpu_seconds, 3),
    )
    place = place_in(folder, path / NETWORK_FILE)
    write_text(path / NETWORK_FILE, to_document(asdict(record), place))
    progress.done()


def _made(
    bench: Workbench,
    job: NetworkJob,
    entry: RivalSettings,
    recipe: RecipeSettings,
    progress: FileProgress,
) -> tuple[Backbone, Mapping[str, Any]]:
    """The trained network, and how it differs from the backbone."""
    train = partial(finetune, bench, progress=progress, seed=job.training_seed, recipe=recipe)
    num_blocks = bench.backbone.num_exit_blocks
    full = ExitSchedule.flat(num_blocks)
    if isinstance(entry, ScheduleRival):
        space, family = bench.settings.space, family_in(bench.settings)
        schedule = schedule_at(
            str(job.row.point), num_blocks, space.num_intervals, family, space.interval_edges
        )
        if entry.recipe.get("start", "plain") == "plain":
            return train(schedule), {}
        exits = early_exits_of(schedule, bench.backbone)
        adapters = fitted_adapters(bench, exits)
        net = cast("Backbone", WithAdapters(cast("nn.Module", bench.fresh_backbone()), adapters))
        return train(schedule, net=net), {"adapters": {"exits": list(exits)}}
    if isinstance(entry, UncertaintyRival):
        module = {
            "shared": entry.shared,
            "time": entry.time,
            "exits": entry.exits,
            "variant": entry.variant,
        }
        options = {
            "uem": "shared" if entry.shared else "own",
            "time": entry.time,
            "variant": entry.variant,
            "exits": entry.exits,
        }
        recipe = _with_extra(recipe, options)
        return train(full, trainer=entry.trainer, recipe=recipe), {"uem": module}
    if isinstance(entry, SimilarityRival):
        recipe = _with_extra(recipe, {"exits": entry.exits})
        return train(full, trainer=entry.trainer, recipe=recipe), {}
    assert isinstance(entry, PrunedRival | SmallRival)
    if isinstance(job.row.point, float):
        net, network = narrowed(bench, job.row.point)
    else:
        keep = chosen_blocks(bench, entry, int(cast(int, job.row.point)))
        network = {"keep": keep}
        net = build_network(network, bench.fresh_backbone(), None)
        if isinstance(entry, SmallRival):
            _start_from_scratch(net, job.training_seed)
    flat = ExitSchedule.flat(net.num_exit_blocks)
    return train(flat, net=net), network


def _with_extra(recipe: RecipeSettings, options: Mapping[str, Any]) -> RecipeSettings:
    """A recipe whose trainer gets more options; those of the user hold."""
    return replace(recipe, extra={**options, **recipe.extra})


def _start_from_scratch(net: Backbone, seed: int) -> None:
    """Initialise a network as its official code does, with a seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in cast("nn.Module", net).modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        cast(Any, net).initialize_weights()
