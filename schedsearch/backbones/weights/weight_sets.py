"""Finds the sets of weights in a file: the EMA first, without wrappers and bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from schedsearch.backbones.weights.weight_names import (
    common_prefix,
    is_bookkeeping,
    is_ema,
    name_some,
    without_wrappers,
)
from schedsearch.config.checkpoint_paths import CHOICES
from schedsearch.exceptions import CheckpointError

_MAX_NESTING = 6

_OPTIMIZER_STATE = frozenset(
    ["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "step"]
)
_NAMELESS = "holds tensors without names"
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
    wrappers: tuple[str, ...] = ()
    """What torch's wrappers had put into some names."""


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
        raise CheckpointError(_why_no_set(content, empty, path))
    first, *others = sets
    passed = [f"{path.name}: {name!r} {why} and was passed over" for name, why in empty.items()]
    notes = []
    if others:
        names = [s.name or "(top level)" for s in sets]
        advice = f"#{names[1]} takes the other" if len(names) == 2 else "#NAME takes another"
        notes.append(f"{path.name} holds {name_some(names)}; {names[0]!r} was loaded ({advice})")
    elif first.name:
        notes.append(f"{path.name}: {first.name!r} was loaded")
    if first.wrappers:
        notes.append(f"{', '.join(first.wrappers)} was removed from its keys")
    return first, tuple(s.name for s in others if s.name), notes, passed


def find_sets(content: Mapping[str, object]) -> tuple[list[WeightSet], dict[str, str]]:
    """Every set of weights in a file, the one to prefer first; and why others give none."""
    found: list[tuple[str, dict[str, Tensor]]] = []
    empty: dict[str, str] = {}
    _walk(content, "", found, empty, 0)
    sets = [part for name, tensors in found for part in _split(name, tensors)]
    largest = max((len(s.state) for s in sets), default=0)

    def order(item: WeightSet) -> tuple[bool, bool, int]:
        last = item.name.rpartition(".")[2]
        usual = CHOICES.index(last) if last in CHOICES else len(CHOICES)
        ema = is_ema(item.name)
        # NOTE: A few averaged values beside a network are no EMA of it.
        few = 2 * len(item.state) < largest and not (ema and _has_twin(item, sets))
        return few, not ema, usual

    return sorted(sets, key=order), empty


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


def _why_no_set(content: Mapping[str, object], empty: Mapping[str, str], path: Path) -> str:
    types = sorted({str(v.dtype)[6:] for v in content.values() if isinstance(v, Tensor)})
    if types:
        return (
            f"The checkpoint {path} has {', '.join(types)} values, as quantised weights have "
            "them. Save plain float weights."
        )
    keys = name_some([ascii(key).strip("'") for key in content])
    nameless = next((name for name, why in empty.items() if why == _NAMELESS), None)
    return (
        f"The checkpoint {path} holds no tensors where its weights should be; "
        + (f"the keys there are {keys}." if keys else "it is an empty mapping.")
        + (f" {nameless!r} {_NAMELESS}: save a state dict instead." if nameless else "")
    )


def _walk(
    content: object,
    name: str,
    found: list[tuple[str, dict[str, Tensor]]],
    empty: dict[str, str],
    depth: int,
) -> None:
    """Collect the mappings of tensors below ``name``, and the EMAs that give none."""
    items = list(content.items()) if isinstance(content, Mapping) else _mappings_in(content)
    tensors = {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
    if any(v.is_floating_point() and not is_bookkeeping(k, v) for k, v in tensors.items()) and (
        not set(tensors) <= _OPTIMIZER_STATE
    ):
        found.append((name, tensors))
    if depth >= _MAX_NESTING:
        return
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, Mapping | list | tuple | None):
            continue
        inner, before = f"{name}.{key}" if name else key, len(found)
        _walk(value, inner, found, empty, depth + 1)
        if key.lower().startswith(_OPTIMIZERS):  # NOTE: some keep an EMA, none a network
            found[before:] = [f for f in found[before:] if is_ema(f[0].removeprefix(inner))]
        elif len(found) == before and (key in CHOICES or is_ema(key)):
            inside = [name for name in empty if name.startswith(f"{inner}.")]
            why = empty.pop(inside[0]) if inside else "is empty"
            empty[inner] = _NAMELESS if _is_nameless(value) else why


def _mappings_in(content: object) -> list[tuple[str, object]]:
    """The mappings in a list, by their number."""
    if not isinstance(content, list | tuple):
        return []
    return [(str(i), v) for i, v in enumerate(content) if isinstance(v, Mapping)]


def _is_nameless(value: object) -> bool:
    """Whether tensors lie in a list, or under keys that are no text."""
    if isinstance(value, Mapping):
        return any(isinstance(v, Tensor) and not isinstance(k, str) for k, v in value.items())
    return bool(value)


def _split(name: str, tensors: Mapping[str, Tensor]) -> Iterator[WeightSet]:
    """A state dict as one set; or, where it holds an EMA beside its network, as several."""
    prefix = common_prefix([n for n, value in tensors.items() if not is_bookkeeping(n, value)])
    state = {n.removeprefix(prefix): value for n, value in tensors.items()}
    groups: dict[str, dict[str, Tensor]] = {}
    for n, value in state.items():
        head, dot, rest = n.partition(".")
        if dot and not is_bookkeeping(n, value):
            groups.setdefault(head, {})[rest] = value
    for head in [head for head in groups if is_ema(head)]:
        twin = next((g for h, g in groups.items() if h != head and _alike(groups[head], g)), None)
        if twin is not None:
            dotted = {n.replace(".", ""): n for n in twin}  # NOTE: latent-diffusion drops dots
            groups[head] = {dotted.get(n.replace(".", ""), n): v for n, v in groups[head].items()}
            for h, group in groups.items():
                yield from _split(f"{name}.{prefix}{h}".strip("."), group)
            return
    state, wrappers = without_wrappers(state)
    yield WeightSet(name, state, prefix, wrappers)


def _has_twin(ema: WeightSet, sets: Sequence[WeightSet]) -> bool:
    """Whether another set, or one attribute in it, has mostly the same names."""
    for other in sets:
        parts: dict[str, dict[str, Tensor]] = {}
        for n, value in other.state.items():
            parts.setdefault(n.partition(".")[0], {})[n.partition(".")[2]] = value
        for part in (other.state, *parts.values()):
            if other is not ema and _alike(ema.state, part) and _alike(part, ema.state):
                return True
    return False


def _alike(ema: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether most names of one are names of the other, dots aside."""
    shared = {n.replace(".", "") for n in ema} & {n.replace(".", "") for n in other}
    return 2 * len(shared) > len(ema)
