"""Recognises running out of memory, and says which number is too large."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedsearch.exceptions import ConfigError

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_ALLOCATORS = (
    "DefaultCPUAllocator",
    "CUDA out of memory",
    "alloc_cpu",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "array is too big",
    "Maximum allowed dimension exceeded",
)
"""What torch and NumPy say when an allocation fails, outside MemoryError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | ValueError) and any(
        words in str(error) for words in _ALLOCATORS
    )


@contextmanager
def within_memory(numbers: str) -> Iterator[None]:
    """Turn a failed allocation into an error that names what was asked for.

    Args:
        numbers: What decides the memory, with its value, such as ``--batch 64``.

    Raises:
        ConfigError: If an allocation failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"Out of memory with {numbers}; lower it. {reason_of(error)}") from error


def require_memory(num_bytes: int, numbers: str) -> None:
    """Refuse what this machine can never hold, before it is tried.

    Args:
        num_bytes: Least memory that is needed.
        numbers: As for :func:`within_memory`.

    Raises:
        ConfigError: If the machine, or the limit of its container, is smaller.
    """
    limit = _total_bytes()
    if num_bytes > limit:
        raise ConfigError(
            f"{numbers} takes at least {num_bytes / 1e9:,.1f} GB, but this machine has "
            f"{limit / 1e9:,.1f} GB of memory. Lower it."
        )


def reason_of(error: BaseException) -> str:
    """The allocator's own words in one short line."""
    text = " ".join(str(error).split()) or "An allocation failed."
    return text if len(text) <= 200 else f"{text[:197]}..."


def _total_bytes() -> int:
    """Memory of the machine, or the limit of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP_LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total
