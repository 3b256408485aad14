"""Refuses caches of other tools, which skip blocks by other rules.

A cache is filled by blocks that an exit may leave out, so the two together fail or mislead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from schedsearch.exceptions import ScheduleError

REGISTRY = "_diffusers_hook"
"""Attribute of a module with diffusers' hooks."""


def refuse_caches(model: nn.Module, lists: Iterable[nn.ModuleList]) -> None:
    """Refuse a cache on the model or at the ends of its lists.

    It is cheap enough for every call.

    Raises:
        ScheduleError: If there is one; it names the cache.
    """
    own = model.__dict__
    if own.get("_cache_config") is not None:
        _refuse(type(own["_cache_config"]).__name__)
    if own.get("_is_cached"):
        _refuse("a cache that marks the model with _is_cached (cache-dit, ParaAttention)")
    for blocks in lists:
        modules = blocks._modules
        for name in ("0", str(len(modules) - 1)):
            block = modules.get(name)
            if block is not None and REGISTRY in block.__dict__:
                _refuse_hooks(block)


def refuse_any_cache(model: nn.Module, lists: Iterable[nn.ModuleList]) -> None:
    """As :func:`refuse_caches`, but look at every module.

    Raises:
        ScheduleError: If there is a cache.
    """
    refuse_caches(model, lists)
    for module in model.modules():
        if REGISTRY in module.__dict__:
            _refuse_hooks(module)
        if type(module).__module__.partition(".")[0] == "cache_dit":
            _refuse("cache-dit")


def _refuse_hooks(module: nn.Module) -> None:
    for hook in _stateful_hooks(module):
        _refuse(type(hook).__name__)


def _stateful_hooks(module: nn.Module) -> Iterator[object]:
    """Hooks that remember earlier calls; those of offloading and casting do not."""
    hooks = getattr(module.__dict__[REGISTRY], "hooks", {})
    return (hook for hook in hooks.values() if getattr(hook, "_is_stateful", False))


def _refuse(cache: str) -> None:
    raise ScheduleError(
        f"A schedule and a cache cannot run together, but {cache} is active. Call "
        "disable_cache() on the model, or schedsearch.disable."
    )
