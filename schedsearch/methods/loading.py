"""Loads a method file: the method, and the network that it runs on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.kinds import build_method
from schedsearch.methods.method_file import MethodFile, read_method_file
from schedsearch.methods.networks import (
    build_network,
    check_adapters,
    check_network,
    has_adapters,
)
from schedsearch.protocols import Backbone, Method, NetworkCall
from schedsearch.settings import SolverSettings

ADDS_WEIGHTS = frozenset({"block_cache"})
"""Kinds whose weights file belongs to the method, not to the network."""


@dataclass(frozen=True)
class LoadedMethod:
    """A method file in memory; a :class:`schedsearch.protocols.Method`."""

    file: MethodFile
    path: Path

    @property
    def weights(self) -> Path | None:
        """The file with the weights, if there is one."""
        return None if self.file.weights is None else self.path.parent / self.file.weights

    @cached_property
    def method(self) -> Method:
        """The method itself.

        Raises:
            ConfigError: If the numbers are not those of the kind, or the weights are gone.
        """
        adds = self.file.kind in ADDS_WEIGHTS
        num_blocks = self.file.backbone.num_exit_blocks
        own = self.weights if adds else None
        try:
            return build_method(self.file.kind, self.file.numbers, own, num_blocks)
        except CheckpointError:
            raise
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def check_adapters(self) -> None:
        """Refuse exit adapters that are missing.

        Raises:
            ConfigError: If an exit of the schedule has none, or the file names no weights.
        """
        file = self.file
        blocks = file.backbone.num_exit_blocks
        try:
            check_adapters(file.kind, file.numbers, file.network, blocks)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error
        if "adapters" in file.network and file.weights is None:
            raise ConfigError(
                f"{self.path}: the network has exit adapters, but the file names no weights that "
                "hold them. Export the method again."
            )

    @property
    def is_dynamic(self) -> bool:
        """Whether the images change what runs."""
        return "threshold" in self.file.numbers

    @property
    def changes_network(self) -> bool:
        """Whether the method needs another network than the backbone."""
        has_own = self.weights is not None and self.file.kind not in ADDS_WEIGHTS
        return bool(self.file.network) or has_own

    def network(self, base: Backbone) -> Backbone:
        """Return the network that the method runs on.

        Args:
            base: The backbone with its pretrained weights; used up where the method changes it.

        Raises:
            ConfigError: If the file is for another backbone.
            CheckpointError: If its weights are damaged or gone.
        """
        if base.num_exit_blocks != self.file.backbone.num_exit_blocks:
            raise ConfigError(
                f"{self.path}: the method is for {self.file.backbone.num_exit_blocks} exit "
                f"blocks, but the backbone has {base.num_exit_blocks}; use one made for this "
                "backbone."
            )
        if not self.changes_network:
            return base
        own = None if self.file.kind in ADDS_WEIGHTS else self.weights
        return build_network(self.file.network, base, own)

    def network_for(self, net: Backbone) -> Backbone:
        """Return ``net``, or a copy with the adapters and weights that the method's exits need.

        Raises:
            ConfigError: If the file is for another backbone.
            CheckpointError: If its weights are damaged or gone.
        """
        if has_adapters(self.file.network, net):
            return net
        return self.network(copy.deepcopy(net))

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> NetworkCall:
        """Start one sampling run.

        Raises:
            ConfigError: If the method is bound to another number of steps, or needs another
                network; see :meth:`network`.
        """
        if self.file.num_steps not in (None, len(times)):
            raise ConfigError(
                f"{self.path}: the method is for {self.file.num_steps} solver steps, but the "
                f"solver takes {len(times)}. Use as many, or calibrate it again."
            )
        check_network(self.file.network, net)
        return self.method.begin(net, times, guided=guided)


def load_method(path: str | Path) -> LoadedMethod:
    """Read a method file that ``schedsearch export --method`` wrote.

    Raises:
        ConfigError: If the file or its weights cannot be read.
    """
    loaded = LoadedMethod(read_method_file(path), Path(path).expanduser().absolute())
    loaded.method  # noqa: B018 - mistakes in the numbers are found here
    loaded.check_adapters()
    return loaded


def solver_for(method: LoadedMethod, solver: SolverSettings) -> SolverSettings:
    """The solver that a method runs with: fewer steps where that is all it does."""
    if method.file.kind != "steps" or method.file.num_steps is None:
        return solver
    return replace(solver, num_steps=method.file.num_steps)
