"""The model card of an exported pipeline: how to load it, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.formatting import plus_minus, rounded
from schedsearch.statistics.paired import PairedDifference, paired_difference
from schedsearch.version import __version__

if TYPE_CHECKING:
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.results import RunResults
    from schedsearch.schedules.schedule_file import ScheduleFile

_CARD = """\
---
library_name: diffusers
tags: [schedsearch, dit, early-exit]
---
# {name}

A class-conditional DiT on latents whose number of blocks follows diffusion time. schedsearch
{version} fine-tuned the weights for the schedule (EMA) and measured both. The schedule runs
{depths} of {num_blocks} blocks, from data to noise. The weights keep the licence of their source.

## Use

```python
{code}```

diffusers computes another time embedding than DiT (`downscale_freq_shift` 1 instead of 0).
`patch_time_embedding` corrects that. Without it the model runs, but its predictions are wrong.
Without schedsearch these lines do the same; the model then runs every block:

```python
for block in pipe.transformer.transformer_blocks:
    block.norm1.emb.time_proj.downscale_freq_shift = 0
```

`enable` checks that the weights are those that were measured. In float32 the samples equal the
run's for the same noise and labels, up to rounding; in half precision give it `strict=False`.
{scheduler}

## Results

{results}

## Protocol

{protocol}
"""

_GUIDED = """\
from schedsearch.apply.guided_channels import guide_channels
"""

_CODE = """\
from diffusers import DiTPipeline

import schedsearch
{guided}from schedsearch.backbones.weights.diffusers_dit import patch_time_embedding

pipe = DiTPipeline.from_pretrained("THIS FOLDER")
patch_time_embedding(pipe.transformer)
{guide}schedsearch.enable(pipe, "THIS FOLDER/schedule.yaml")
images = pipe([207, 360], guidance_scale={scale:g}, num_inference_steps={steps}).images
"""

_HEADLINE = ("fid", "kid", "latency_ms", "latency_source", "acceleration", "num_samples")
_HELD_OUT = ("fid_held_out", "fid_ci95", "fid_ci95_over")


def model_card(
    results: RunResults,
    entry: FrontEntry,
    file: ScheduleFile,
    scheduler: Mapping[str, Any],
    vae_sha256: str,
) -> str:
    """Write the card.

    Args:
        results: The run.
        entry: The exported trial.
        file: Its schedule file.
        scheduler: Config of diffusers' scheduler.
        vae_sha256: Digest of the autoencoder.
    """
    solver = results.settings.solver
    channels = solver.cfg_channels if solver.cfg_scale != 1 else None
    code = _CODE.format(
        guided="" if channels is None else _GUIDED,
        guide="" if channels is None else f"guide_channels(pipe.transformer, {channels})\n",
        scale=solver.cfg_scale,
        steps=solver.num_steps,
    )
    note = f"The scheduler is the run's `{solver.name}`."
    if scheduler.get("trained_betas") is not None:
        note += f" Its `trained_betas` are right for {solver.num_steps} steps only."
    return _CARD.format(
        name=file.name,
        version=__version__,
        num_blocks=file.backbone.num_exit_blocks,
        depths=" ".join(map(str, file.depths)),
        code=code,
        scheduler=note,
        results="\n".join(_results(results, entry)),
        protocol="\n".join(_protocol(results, entry, file, vae_sha256)),
    )


def _results(results: RunResults, entry: FrontEntry) -> Iterator[str]:
    full = results.full()
    columns = [entry] if full is None or full is entry else [entry, full]
    names = ["this schedule", "full depth"] if len(columns) > 1 else [entry.title]
    batch = results.settings.evaluation.latency_batch
    yield "| | " + " | ".join(names) + " |"
    yield "|---|" + "---|" * len(columns)
    yield _row(entry.fid_title, [rounded(column.fid) for column in columns])
    if (held_out := [column.held_out_fid for column in columns])[0] is not None:
        seeds, num = len(entry.confirmed), entry.confirmed[0].num_samples
        cells = ["-" if f is None else plus_minus(f.mean, f.half_width) for f in held_out]
        yield _row(f"mean FID of {seeds} held-out seeds, n={num}, 95 % interval", cells)
    ms = [f"{rounded(column.latency_ms)} ({column.latency.source})" for column in columns]
    yield _row(f"latency, ms per batch of {batch}", ms)
    yield _row("time saved", [f"{column.latency.acceleration:.1%}" for column in columns])
    if differences := list(_differences(results, entry, full)):
        yield ""
        yield "Paired differences of FID (same noise, 95 % interval; below 0 the first is better):"
        yield ""
        yield from differences


def _differences(results: RunResults, entry: FrontEntry, full: FrontEntry | None) -> Iterator[str]:
    if full is not None and full is not entry:
        to_full = paired_difference(entry.fids_by_seed, full.fids_by_seed)
        if to_full is not None:
            yield _difference("this schedule - full depth", to_full, training=False)
    for found in results.comparisons():
        if found.searched is None or found.difference is None:
            continue
        if entry.trial in (found.searched.trial, found.preset.trial):
            title = f"{found.searched.title} - {found.preset.title}"
            yield _difference(title, found.difference, training=found.num_training_seeds > 0)


def _difference(title: str, found: PairedDifference, *, training: bool) -> str:
    seeds = "training seeds, retrained" if training else "held-out seeds"
    value = plus_minus(found.mean, found.half_width, sign=True)
    return f"* {title}: {value} over {found.num_seeds} {seeds}"


def _protocol(
    results: RunResults, entry: FrontEntry, file: ScheduleFile, vae_sha256: str
) -> Iterator[str]:
    recipe, left_out = results.settings.recipe, (*_HEADLINE, *_HELD_OUT)
    rows = {key: value for key, value in file.measured.items() if key not in left_out}
    rows |= {
        "fine_tune": f"{recipe.num_steps} steps, batch {recipe.batch_size}, lr {recipe.lr:g}",
        "fid_protocol": entry.evaluation.protocol,
        "vae_sha256": vae_sha256,
        "fingerprint": file.backbone.fingerprint,
    }
    rows |= {
        key: " ".join(f"{name} {number}" for name, number in value.items())
        if isinstance(value, Mapping)
        else value
        for key, value in file.provenance.items()
        if key != "seed"
    }
    rows["search_seed"] = file.provenance["seed"]
    yield "| key | value |"
    yield "|---|---|"
    for key, value in rows.items():
        yield _row(key, [str(value)])


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"
