"""Finds the sets of weights in a file: the EMA first, without wrappers and bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from torch import Tensor

from schedsearch.config.checkpoint_paths import CHOICES
from schedsearch.exceptions import CheckpointError

MAX_NAMED = 5
"""Largest number of keys that an error names."""

_MAX_NESTING = 4

_EMA_WORDS = frozenset({"avg", "average", "averaged", "shadow", "polyak", "swa"})
_NO_EMA = ("schema", "cinema", "kinema")

_BOOKKEEPING = frozenset(
    ["n_averaged", "num_updates", "decay", "initted", "step", "epoch", "iteration", "global_step"]
)
"""Counters that averaging and training code stores beside weights."""

_OPTIMIZER_STATE = frozenset(
    ["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "step"]
)
_OPTIMIZERS = ("opt", "sched", "scaler", "scheduler")


@dataclass(frozen=True, slots=True)
class WeightSet:
    """Tensors of one network."""

    name: str
    """Keys that lead to it, joined by dots; empty for the file itself."""
    state: dict[str, Tensor]
    """Names without the wrappers' prefix."""
    prefix: str
    """What stood before all names."""


def choose_set(
    content: Mapping[str, object], path: Path, choice: str | None
) -> tuple[WeightSet, tuple[str, ...], list[str], list[str]]:
    """Choose one set of weights, the EMA where there is one.

    Args:
        content: What the file holds.
        path: The file, for messages.
        choice: Name of the set to take, or its last part; None takes the first.

    Returns:
        The set, the names of the others, notes on the choice, and on what was passed over.

    Raises:
        CheckpointError: If there is no such set, or none at all.
    """
    sets, empty = find_sets(content)
    if choice is not None:
        chosen = _named(sets, empty, path, choice)
        return chosen, (), [f"{path.name}: {choice!r} was loaded"], []
    if not sets:
        keys = name_some([ascii(key).strip("'") for key in content])
        raise CheckpointError(
            f"The checkpoint {path} holds no tensors where its weights should be; "
            + (f"the keys there are {keys}." if keys else "it is an empty mapping.")
        )
    first, *others = sets
    passed = [f"{path.name}: {name!r} {why} and was passed over" for name, why in empty.items()]
    notes = []
    if others:
        names = [s.name or "(top level)" for s in sets]
        advice = f"#{names[1]} takes the other" if len(names) == 2 else "#NAME takes another"
        notes.append(f"{path.name} holds {name_some(names)}; {names[0]!r} was loaded ({advice})")
    elif first.name:
        notes.append(f"{path.name}: {first.name!r} was loaded")
    return first, tuple(s.name for s in others if s.name), notes, passed


def find_sets(content: Mapping[str, object]) -> tuple[list[WeightSet], dict[str, str]]:
    """Every set of weights in a file, the one to prefer first; and why others give none."""
    found: list[tuple[str, dict[str, Tensor]]] = []
    empty: dict[str, str] = {}
    _walk(content, "", found, empty)
    sets = [part for name, tensors in found for part in _split(name, tensors)]
    largest = max((len(s.state) for s in sets), default=0)

    def order(item: WeightSet) -> tuple[bool, bool, int]:
        last = item.name.rpartition(".")[2]
        usual = CHOICES.index(last) if last in CHOICES else len(CHOICES)
        # NOTE: A few averaged values beside a network are no EMA of it.
        return 2 * len(item.state) < largest, not _is_ema(item.name), usual

    return sorted(sets, key=order), empty


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


def _named(sets: list[WeightSet], empty: Mapping[str, str], path: Path, choice: str) -> WeightSet:
    matching = [s for s in sets if choice == s.name] or [
        s for s in sets if choice == s.name.rpartition(".")[2]
    ]
    if len(matching) == 1:
        return matching[0]
    known = [s.name for s in sets if s.name]
    if choice in empty:
        use = f"Use #{known[0]}" if known else "Save the weights again"
        raise CheckpointError(f"{choice!r} in the checkpoint {path} {empty[choice]}. {use}.")
    holds = f"holds {name_some(known)}" if known else "holds one set of weights only"
    has = "several" if matching else "no"
    raise CheckpointError(
        f"The checkpoint {path} has {has} {choice!r}: it {holds}. Change or drop the suffix "
        f"#{choice}."
    )


def _walk(
    content: Mapping[object, object] | Mapping[str, object],
    name: str,
    found: list[tuple[str, dict[str, Tensor]]],
    empty: dict[str, str],
) -> None:
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if any(v.is_floating_point() and not is_bookkeeping(k, v) for k, v in tensors.items()) and (
        not set(tensors) <= _OPTIMIZER_STATE
    ):
        found.append((name, tensors))
    if name.count(".") >= _MAX_NESTING:
        return
    for key, value in content.items():
        if not isinstance(key, str) or key.lower().startswith(_OPTIMIZERS):
            continue
        inner, before = f"{name}.{key}" if name else key, len(found)
        if isinstance(value, Mapping):
            _walk(value, inner, found, empty)
        elif not (value is None or isinstance(value, list | tuple)):
            continue
        if len(found) == before and (key in CHOICES or _is_ema(key)):
            inside = [name for name in empty if name.startswith(f"{inner}.")]
            why = empty.pop(inside[0]) if inside else "is empty"
            empty[inner] = (
                "holds tensors without names" if isinstance(value, list) and value else why
            )


def _split(name: str, tensors: Mapping[str, Tensor]) -> Iterator[WeightSet]:
    """A state dict as one set; or, where it holds an EMA beside its network, as several."""
    prefix = common_prefix([n for n, value in tensors.items() if not is_bookkeeping(n, value)])
    state = {n.removeprefix(prefix): value for n, value in tensors.items()}
    groups: dict[str, dict[str, Tensor]] = {}
    for n, value in state.items():
        head, dot, rest = n.partition(".")
        if dot and not is_bookkeeping(n, value):
            groups.setdefault(head, {})[rest] = value
    for head in [head for head in groups if _is_ema(head)]:
        twin = next((g for h, g in groups.items() if h != head and _alike(groups[head], g)), None)
        if twin is not None:
            dotted = {n.replace(".", ""): n for n in twin}  # NOTE: latent-diffusion drops dots
            groups[head] = {dotted.get(n.replace(".", ""), n): v for n, v in groups[head].items()}
            for h, group in groups.items():
                yield from _split(f"{name}.{prefix}{h}".strip("."), group)
            return
    yield WeightSet(name, state, prefix)


def _alike(ema: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether most names of one are names of the other, dots aside."""
    shared = {n.replace(".", "") for n in ema} & {n.replace(".", "") for n in other}
    return 2 * len(shared) > len(ema)


def _is_ema(name: str) -> bool:
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
