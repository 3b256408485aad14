"""Rules for the section ``rivals``: between entries, and with the network and the solver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from schedsearch.config.backbone_rules import num_blocks_of, num_exit_blocks_of, shipped_family
from schedsearch.config.paths import why_not_importable
from schedsearch.config.rival_entries import RIVALS, merged_recipe, schedule_at
from schedsearch.config.solver_rules import draws_noise, other_steps
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, Mistake, nearest_or_list, shown
from schedsearch.files.validation import validate
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.hand_made import FULL
from schedsearch.settings import (
    BackboneSettings,
    DiffusionSettings,
    RecipeSettings,
    SolverSettings,
    SpaceSettings,
)
from schedsearch.settings.rivals import (
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
from schedsearch.settings.rows import TWIN, Row, rows_of

WHOLE_CALLS = (ScheduleRival, StepsRival, PrunedRival, SmallRival)
"""Entries that remember nothing from one network call to the next."""


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
            yield from _has_blocks(f"{at}.blocks", entry, num_blocks_of(backbone))
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
            yield f"{at}.kind", reason, f"set solver.cfg_interval to null, or add -o {at}=null"
        if isinstance(entry, StepsRival):
            yield from other_steps(f"{at}.num_steps", entry.num_steps, solver, diffusion)
        elif isinstance(entry, FittedStepsRival):
            yield from _fitted_steps(at, entry, solver)
        elif isinstance(entry, RouterRival) and solver.num_steps < 2:
            reason = (
                f"a router reuses every second step, but solver.num_steps is {solver.num_steps}"
            )
            yield at, reason, f"take more steps, or add -o {at}=null"


def rows_differ(rivals: Mapping[str, RivalSettings], presets: Iterable[str]) -> Iterator[Mistake]:
    """No two rows share a name, since their folders are named so.

    Args:
        rivals: The section.
        presets: Labels of the warm starts.
    """
    owners: dict[str, Row] = {}
    for row in rows_of(rivals, {label: () for label in presets if label != FULL}):
        for name in (row.name, row.name + TWIN) if row.dynamic else (row.name,):
            owner = owners.setdefault(name, row)
            if (owner.entry, owner.point) != (row.entry, row.point):
                reason = f"its row {name} is also a row of {owner.entry}"
                yield f"{RIVALS}.{row.entry}", reason, "rename the entry, or remove the point"


def trainers_exist(rivals: Mapping[str, RivalSettings]) -> Iterator[Mistake]:
    """The modules of the trainers exist."""
    for name, entry in rivals.items():
        trainer = getattr(entry, "trainer", None)
        if trainer is not None and (broken := why_not_importable(trainer)) is not None:
            yield f"{RIVALS}.{name}.trainer", *broken


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
            yield f"{at}.num_steps.{index}", reason, f"set fewer, or add -o {at}=null"


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
        if depth >= num_blocks:
            reason = f"must be below the {num_blocks} exit blocks of the backbone, got {depth}"
            yield f"{at}.depth.{index}", reason, None


def _has_blocks(at: str, entry: TokenMergingRival, total: int | None) -> Iterator[Mistake]:
    if total is not None and entry.blocks != "all" and int(entry.blocks[1:]) > total:
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
