"""Names of tensors and of sets of tensors: prefixes, wrappers, counters, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

from torch import Tensor

MAX_NAMED = 5
"""Largest number of keys that an error names."""

_EMA_WORDS = frozenset({"avg", "average", "averaged", "shadow", "polyak", "swa", "smoothed"})
_NO_EMA = ("schema", "cinema", "kinema")

_WRAPPERS = frozenset(
    ["_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"]
)
"""What torch puts into the names of compiled, sharded or checkpointed parts of a network."""

_BOOKKEEPING = frozenset(
    ["n_averaged", "num_updates", "decay", "initted", "step", "epoch", "iteration", "global_step"]
)
"""Counters that averaging and training code stores beside weights."""


def common_prefix(names: Sequence[str]) -> str:
    """What stands before all names, up to a dot; never a numbered child's parent."""
    parts = [name.split(".") for name in names]
    columns = zip(*(part[:-1] for part in parts), strict=False)
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    while shared and any(part[len(shared)].isdigit() for part in parts):
        shared = shared[:-1]
    return "".join(f"{part}." for part in shared)


def is_bookkeeping(name: str, value: Tensor) -> bool:
    """Whether a tensor is a counter of training code, not a weight."""
    return value.numel() == 1 and (value.ndim == 0 or name.rpartition(".")[2] in _BOOKKEEPING)


def name_some(names: Sequence[str]) -> str:
    """List the first names and the number of the rest."""
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def without_wrappers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors without torch's wrappers in their names, and which there were."""
    names = {n: ".".join(part for part in n.split(".") if part not in _WRAPPERS) for n in state}
    if len(set(names.values())) < len(names):  # NOTE: two names would become one
        return dict(state), ()
    wrappers = {part for n in names for part in n.split(".") if part in _WRAPPERS}
    return {names[n]: value for n, value in state.items()}, tuple(sorted(wrappers))


def is_ema(name: str) -> bool:
    """Whether one of the keys says that these are averaged weights."""
    for part in name.split("."):
        low = part.lower()
        if low.startswith("exp_avg"):
            continue
        if low.startswith("ema") or (low.endswith("ema") and not low.endswith(_NO_EMA)):
            return True
        words = "".join(f" {c}" if c.isupper() else c for c in part).lower()
        pieces = words.replace("_", " ").replace("-", " ").split()
        if not _EMA_WORDS.isdisjoint(pieces) or "ema" in pieces:
            return True
    return False
