"""Checks the section ``rivals``: types by kind, then rules between entries and the network."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.config.backbone_rules import num_exit_blocks_of, shipped_family
from schedsearch.config.paths import why_not_importable
from schedsearch.config.solver_rules import draws_noise, solver_mistakes
from schedsearch.config.warm_starts import TWIN_OF, WARM_START, twin_row
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, Mistake, nearest_or_list, shown
from schedsearch.files.validation import validate
from schedsearch.schedules.argument import resolve_schedule
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.edges import Edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, PRESET_NAMES, is_preset
from schedsearch.settings import (
    BackboneSettings,
    DiffusionSettings,
    RecipeSettings,
    SolverSettings,
    SpaceSettings,
)
from schedsearch.settings.plan import PLAN, PlanSettings
from schedsearch.settings.rivals import (
    RIVAL_KINDS,
    FittedStepsRival,
    PrunedRival,
    RivalSettings,
    RouterRival,
    ScheduleRival,
    SimilarityRival,
    SmallRival,
    StepsRival,
    StitchRival,
    TokenMergingRival,
    UncertaintyRival,
)
from schedsearch.settings.rows import PRESETS, Row, rows_of

RIVALS = "rivals"

TAKEN = (FULL, PRESETS, PLAN)
"""Names of rows that are no entries of the section."""

WHOLE_CALLS = (ScheduleRival, StepsRival, PrunedRival, SmallRival)
"""Entries that remember nothing from one network call to the next."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def read_rivals(value: Any, findings: Findings) -> dict[str, RivalSettings]:
    """Validate the plain section entry by entry; wrong entries are left out.

    Args:
        value: The section.
        findings: Receives the mistakes.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        findings.add((RIVALS,), f"must be a section of named entries, got {shown(value)}")
        return {}
    found = {}
    for name, entry in value.items():
        at = (RIVALS, name)
        if entry is None:  # -o rivals.NAME=null removes an entry
            continue
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in TAKEN:
            remedy = "use letters, digits, '_' and '-'; full, presets and plan are taken"
            findings.add(at, f"{shown(name)} cannot name an entry", remedy)
        elif not isinstance(entry, Mapping):
            findings.add(at, f"must be a section with the key kind, got {shown(entry)}")
        elif not isinstance(kind := entry.get("kind"), str) or kind not in RIVAL_KINDS:
            known = nearest_or_list(str(kind), list(RIVAL_KINDS))
            reason = "required key is missing" if kind is None else f"unknown kind {shown(kind)}"
            findings.add((*at, "kind"), reason, known)
        else:
            valid, settings = validate(RIVAL_KINDS[kind], dict(entry), at, findings)
            if valid:
                found[name] = settings
    return found


def merged_recipe(recipe: RecipeSettings, entry: RivalSettings) -> Mapping[str, Any]:
    """The space's recipe with the keys of an entry, as plain data.

    Args:
        recipe: Of the space.
        entry: May have ``recipe`` and, where a trainer has options of its own, ``extra``.
    """
    data = {**dataclasses.asdict(recipe), **getattr(entry, "recipe", {})}
    extra = getattr(entry, "extra", {})
    return {**data, "extra": {**data["extra"], **extra}} if extra else data


def rivals_fit(
    rivals: Mapping[str, RivalSettings],
    backbone: BackboneSettings,
    space: SpaceSettings,
    recipe: RecipeSettings,
    diffusion: DiffusionSettings | None = None,
) -> Iterator[Mistake]:
    """Recipes are valid, schedules exist in the network, and named rows exist."""
    rows = {row.name: row for row in rows_of(rivals, {})}
    num_blocks = num_exit_blocks_of(backbone)
    for name, entry in rivals.items():
        at = f"{RIVALS}.{name}"
        if len(set(entry.points)) < len(entry.points):
            yield at, f"names an operating point twice: {shown(list(entry.points))}", "remove one"
        wrong = Findings("")
        validate(RecipeSettings, merged_recipe(recipe, entry), ("recipe",), wrong)
        for problem in wrong.problems:
            yield f"{at}.{problem.key}", problem.reason, problem.remedy
        if getattr(entry, "recipe", {}).get("start", "plain") != "plain":
            yield from _has_exits(f"{at}.recipe.start", entry, num_blocks)
        if isinstance(entry, ScheduleRival):
            clock = None if diffusion is None else diffusion.clock
            family = shipped_family(backbone)
            yield from _schedules_exist(at, entry, num_blocks, space, family, clock)
            if entry.weights is not None:
                yield from _is_trained(f"{at}.weights", entry.weights, rivals)
        elif isinstance(entry, PrunedRival | SmallRival) and num_blocks is not None:
            yield from _is_smaller(at, entry, num_blocks)
        elif isinstance(entry, TokenMergingRival):
            yield from _has_blocks(f"{at}.blocks", entry, backbone, num_blocks)
        elif isinstance(entry, StitchRival):
            yield from _has_small(f"{at}.small", entry, rows, rivals)


def steps_fit(
    rivals: Mapping[str, RivalSettings], solver: SolverSettings, diffusion: DiffusionSettings
) -> Iterator[Mistake]:
    """The solver takes the numbers of steps, and steps are fitted to a deterministic run."""
    for name, entry in rivals.items():
        at = f"{RIVALS}.{name}"
        adapted = getattr(entry, "recipe", {}).get("start") == "adapters"
        whole = isinstance(entry, WHOLE_CALLS) and not adapted
        if solver.cfg_interval is not None and not whole:
            reason = f"{'adapters' if adapted else entry.kind} cannot follow solver.cfg_interval"
            yield f"{at}.kind", reason, "set solver.cfg_interval to null, or remove the entry"
        if isinstance(entry, StepsRival):
            yield from _plain_steps(f"{at}.num_steps", entry, solver, diffusion)
        elif isinstance(entry, FittedStepsRival):
            yield from _fitted_steps(at, entry, solver)
        elif isinstance(entry, RouterRival) and solver.num_steps < 2:
            reason = (
                f"a router reuses every second step, but solver.num_steps is {solver.num_steps}"
            )
            yield at, reason, "take more steps, or remove the entry"


def plans_fit(
    plan: PlanSettings | None, solver: SolverSettings, diffusion: DiffusionSettings
) -> Iterator[Mistake]:
    """The solver takes the numbers of steps that plans are made for."""
    if plan is not None:
        yield from _plain_steps(f"{PLAN}.num_steps", plan, solver, diffusion)


def twins_exist(
    warm_start: tuple[str | tuple[int, ...], ...], rivals: Mapping[str, RivalSettings]
) -> Iterator[Mistake]:
    """Every twin among the warm starts is that of a dynamic row."""
    rows = {row.name: row for row in rows_of(rivals, {})}
    dynamic = [f"{TWIN_OF}{name}" for name, row in rows.items() if row.dynamic]
    for index, entry in enumerate(warm_start):
        name = twin_row(entry)
        if name is None or (name in rows and rows[name].dynamic):
            continue
        reason = f"there is no row {name!r} in rivals"
        if name in rows:
            reason = f"the row {name!r} of rivals is not dynamic, so it has no static twin"
        remedy = "add an entry of kind uncertainty or similarity to rivals"
        yield (
            f"{WARM_START}.{index}",
            reason,
            nearest_or_list(entry, dynamic) if dynamic else remedy,
        )


def trainers_exist(rivals: Mapping[str, RivalSettings]) -> Iterator[Mistake]:
    """The modules of the trainers exist."""
    for name, entry in rivals.items():
        trainer = getattr(entry, "trainer", None)
        if trainer is not None and (broken := why_not_importable(trainer)) is not None:
            yield f"{RIVALS}.{name}.trainer", *broken


def schedule_at(
    point: str,
    num_exit_blocks: int,
    num_intervals: int,
    family: str | None,
    edges: Edges | None = None,
    clock: Clock | None = None,
) -> ExitSchedule:
    """The schedule that a point of ``kind: schedule`` means.

    Raises:
        ConfigError: If there is no such schedule in the network.
    """
    if found := re.fullmatch(r"flat-(\d+)", point):
        point = found[1]
    elif not re.fullmatch(r"[\d\s]+", point) and not is_preset(point):
        known = nearest_or_list(point, [FULL, *PRESET_NAMES])
        raise ConfigError(f"unknown schedule {point!r}; {known}; or flat-N, or a list of depths")
    return resolve_schedule(
        point,
        num_exit_blocks=num_exit_blocks,
        num_intervals=num_intervals,
        edges=edges,
        clock=clock,
        family=family,
    )


def _schedules_exist(
    at: str,
    entry: ScheduleRival,
    num_blocks: int | None,
    space: SpaceSettings,
    family: str | None,
    clock: Clock | None,
) -> Iterator[Mistake]:
    for index, point in enumerate(entry.points):
        try:
            schedule_at(
                str(point),
                num_blocks or 10**6,
                space.num_intervals,
                family,
                space.interval_edges,
                clock,
            )
        except ConfigError as error:
            yield f"{at}.schedules.{index}", str(error).removesuffix("."), None


def _has_exits(at: str, entry: RivalSettings, num_blocks: int | None) -> Iterator[Mistake]:
    """Adapters need schedules that are fine-tuned, each with an exit below full depth."""
    full = (FULL, f"flat-{num_blocks}")
    if not isinstance(entry, ScheduleRival) or entry.weights is not None:
        reason = "exit adapters are for fine-tuned schedules, kind schedule without weights"
        yield at, reason, "remove start"
    elif deep := [str(point) for point in entry.points if point in full]:
        yield at, f"{deep[0]} has no early exit to adapt", "move it to an entry that starts plain"


def _plain_steps(
    at: str, entry: StepsRival | PlanSettings, solver: SolverSettings, diffusion: DiffusionSettings
) -> Iterator[Mistake]:
    for index, num_steps in enumerate(entry.num_steps):
        fewer = dataclasses.replace(solver, num_steps=num_steps)
        for key, reason, remedy in solver_mistakes(fewer, process=diffusion.process or "ddpm"):
            if key == "solver.num_steps":
                yield f"{at}.{index}", reason, remedy


def _fitted_steps(at: str, entry: FittedStepsRival, solver: SolverSettings) -> Iterator[Mistake]:
    if draws_noise(solver):
        which = f"ddim with eta: {solver.eta:g}" if solver.name == "ddim" else solver.name
        reason = f"fitted steps follow a run without noise in its steps, but {which} draws some"
        remedy = f"use ddim with eta: 0, dpm_solver or flow_euler, or add -o {at}=null"
        yield at, reason, remedy
    most = solver.num_steps // (2 if solver.name == "flow_heun" else 1)
    for index, num_steps in enumerate(entry.num_steps):
        if num_steps > most:
            reason = f"the full run has {most} steps, got {num_steps}"
            yield f"{at}.num_steps.{index}", reason, None


def _is_trained(at: str, name: str, rivals: Mapping[str, RivalSettings]) -> Iterator[Mistake]:
    trained = [
        key
        for key, entry in rivals.items()
        if isinstance(entry, UncertaintyRival | SimilarityRival)
    ]
    if name not in trained:
        known = nearest_or_list(name, trained) if trained else "add one of kind uncertainty"
        yield at, f"no entry {name!r} trains a network for all depths", known


def _is_smaller(at: str, entry: PrunedRival | SmallRival, num_blocks: int) -> Iterator[Mistake]:
    for index, depth in enumerate(entry.depth):
        if isinstance(entry, PrunedRival) and depth >= num_blocks:
            reason = f"must be below the {num_blocks} exit blocks of the backbone, got {depth}"
            yield f"{at}.depth.{index}", reason, None


def _has_blocks(
    at: str, entry: TokenMergingRival, backbone: BackboneSettings, num_exit_blocks: int | None
) -> Iterator[Mistake]:
    if entry.blocks == "all" or num_exit_blocks is None:
        return
    total = num_exit_blocks * 2 + 1 if shipped_family(backbone) == "uvit" else num_exit_blocks
    if int(entry.blocks[1:]) > total:
        yield at, f"the network has {total} blocks, got {entry.blocks}", None


def _has_small(
    at: str, entry: StitchRival, rows: Mapping[str, Row], rivals: Mapping[str, RivalSettings]
) -> Iterator[Mistake]:
    small = [
        name
        for name, row in rows.items()
        if isinstance(rivals.get(row.entry), PrunedRival | SmallRival)
    ]
    if entry.small not in small:
        known = nearest_or_list(entry.small, small) if small else "add an entry of kind pruned"
        yield at, f"no row {entry.small!r} makes a smaller network", known
