"""Random tables of plans, and their front by listing every plan."""

import math

import numpy as np

from schedsearch.planning.plan_inputs import PlanCosts, PlanErrors, StepChoice

FULL = StepChoice(kind="full", blocks=4)


def tables(
    rng: np.random.Generator, *, steps=5, prefixes=3, exits=2, max_age=2, integers=False
) -> tuple[PlanErrors, PlanCosts]:
    """Draw tables with gaps; integers give many ties."""

    def draw(*shape):
        values = rng.integers(0, 5, shape) if integers else rng.exponential(size=shape)
        return np.where(rng.random(shape) < 0.2, np.inf, values)

    def costs(shape):
        return rng.integers(1, 8, shape) if integers else rng.uniform(1, 8, shape)

    errors = PlanErrors(
        weights=rng.integers(0, 3, steps) if integers else rng.exponential(size=steps),
        reuse=draw(steps, prefixes, max_age),
        prefixes=tuple(range(prefixes)),
        exits=draw(steps, exits),
        exit_depths=tuple(range(1, exits + 1)),
    )
    return errors, PlanCosts(
        num_blocks=4,
        full_ms=7,
        reuse_ms=costs((steps, prefixes, max_age)),
        exit_ms=costs((steps, exits)),
        fixed_ms=2,
    )


def every_plan(errors: PlanErrors, costs: PlanCosts) -> list[tuple]:
    """List (ms, error, order of the choices, steps) of all plans, without pruning."""
    num_steps, num_prefixes, max_age = errors.reuse.shape
    found = []

    def extend(steps, order, errors_so_far, ms, since_full):
        step = len(steps)
        if step == num_steps:
            found.append((math.fsum(ms), math.fsum(errors_so_far), order, steps))
            return
        weight = float(errors.weights[step])
        options = [(FULL, 0.0, costs.full_ms, 1)]
        after = None if since_full is None else since_full + 1
        if since_full is not None and since_full <= max_age:
            for p, prefix in enumerate(errors.prefixes):
                choice = StepChoice(kind="reuse", blocks=prefix, age=since_full)
                error = errors.reuse[step, p, since_full - 1]
                cost = costs.reuse_ms[step, p, since_full - 1]
                options.append((choice, error, cost, after))
        else:
            options += [(None, math.inf, 0, None)] * num_prefixes
        for e, depth in enumerate(errors.exit_depths):
            choice = StepChoice(kind="exit", blocks=depth)
            options.append((choice, errors.exits[step, e], costs.exit_ms[step, e], after))
        for rank, (choice, error, cost, age) in enumerate(options):
            if error < math.inf:
                extend(
                    (*steps, choice),
                    (*order, rank),
                    [*errors_so_far, weight * float(error)],
                    [*ms, cost],
                    age,
                )

    extend((), (), [], [costs.fixed_ms], None)
    return found


def brute_front(errors: PlanErrors, costs: PlanCosts) -> list[tuple]:
    front = []
    for plan in sorted(every_plan(errors, costs), key=lambda plan: plan[:3]):
        if not front or plan[1] < front[-1][1]:
            front.append(plan)
    return front
