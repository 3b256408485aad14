"""Loads a method file: the method, and the network that it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from torch import nn

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.files.content import as_path
from schedsearch.files.digest import sha256_of
from schedsearch.files.portable import weights_beside
from schedsearch.methods.kinds import build_method, fitted_numbers
from schedsearch.methods.method_file import MethodFile, read_method_file
from schedsearch.methods.networks import build_network, check_adapters
from schedsearch.protocols import Backbone, Method, NetworkCall

ADDS_WEIGHTS = frozenset({"block_cache", "plan"})
"""Kinds whose weights file belongs to the method, not to the network."""

UNCALIBRATED = frozenset({"steps", "tome"})
"""Kinds whose numbers were fitted to no weights. Caches with a fixed period count alike."""

_OURS = "_schedsearch_"
"""Begins the attributes that say what a network was trained with."""

_MADE_FOR = "_schedsearch_method"
"""Attribute of a network that :meth:`LoadedMethod.network` built."""


@dataclass(frozen=True)
class LoadedMethod:
    """A method file in memory; a :class:`schedsearch.protocols.Method`."""

    file: MethodFile
    path: Path

    @property
    def weights(self) -> Path | None:
        """The file with the weights, if there is one."""
        return None if self.file.weights is None else weights_beside(self.path, self.file.weights)

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
                A network that this method made is returned as it is.

        Raises:
            ConfigError: If the file is for another backbone.
            CheckpointError: If its weights are damaged or gone.
        """
        if self.made(base):
            return base
        if base.num_exit_blocks != self.file.backbone.num_exit_blocks:
            raise ConfigError(
                f"{self.path}: the method is for {self.file.backbone.num_exit_blocks} exit "
                f"blocks, but the backbone has {base.num_exit_blocks}; use one made for this "
                "backbone."
            )
        if not self.changes_network:
            return base
        own = None if self.file.kind in ADDS_WEIGHTS else self.weights
        kept = {name: value for name, value in vars(base).items() if name.startswith(_OURS)}
        net = build_network(self.file.network, base, own)
        for name, value in {**kept, _MADE_FOR: self._network_key}.items():
            setattr(net, name, value)
        return net

    def made(self, net: Backbone) -> bool:
        """Whether :meth:`network` returned ``net``, or a copy of it."""
        return getattr(net, _MADE_FOR, None) == self._network_key

    @property
    def _network_key(self) -> tuple[Mapping[str, object], str | None]:
        return self.file.network, self.file.weights_sha256

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> NetworkCall:
        """Start one sampling run.

        Raises:
            ConfigError: If the method is bound to another number of steps, or needs another
                network; see :meth:`network`.
        """
        if self.file.kind == "fitted_steps":
            if tuple(times) != fitted_numbers(self.file.numbers).times:
                raise ConfigError(
                    f"{self.path}: the steps are fitted, so they run with their own solver only. "
                    "Build it with schedsearch.methods.solver.build_solver_for."
                )
        elif self.file.num_steps not in (None, len(times)):
            raise ConfigError(
                f"{self.path}: the method is for {self.file.num_steps} solver steps, but the "
                f"solver takes {len(times)}. Use as many, or calibrate it again."
            )
        if self.changes_network and not self.made(net):
            raise ConfigError(
                f"{self.path}: the method needs its own network. Build it with the method's "
                "network(), or use schedsearch.sample."
            )
        return self.method.begin(net, times, guided=guided)


def load_method(path: str | Path, place: str | None = None) -> LoadedMethod:
    """Read a method file that ``schedsearch export --method`` wrote.

    Args:
        path: The file.
        place: What its checksum must say, as that of a run's own file; None takes any.

    Raises:
        ConfigError: If the file or its weights cannot be read.
    """
    loaded = LoadedMethod(read_method_file(path, place), as_path(path).absolute())
    _check_digest(loaded)
    loaded.method  # noqa: B018 - mistakes in the numbers are found here
    loaded.check_adapters()
    return loaded


def _check_digest(loaded: LoadedMethod) -> None:
    """Refuse weights other than those that the file was written with.

    Raises:
        CheckpointError: If they are gone or damaged.
    """
    wanted, path = loaded.file.weights_sha256, loaded.weights
    if wanted is None or path is None:
        return
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path}: {error}. Restore it beside its method file."
        ) from error
    if found != wanted:
        raise CheckpointError(
            f"{path} is not the file that {loaded.path} was written with; it is damaged or "
            "another one. Restore it, or export the method again."
        )


def check_weights(loaded: LoadedMethod, net: Backbone) -> None:
    """Refuse a network with other weights than those that a method was made on.

    Args:
        loaded: The method.
        net: The pretrained network.

    Raises:
        ConfigError: If its weights differ.
    """
    file = loaded.file
    wanted = file.backbone.fingerprint
    replaced = loaded.changes_network and "small" not in file.network
    fits_all = file.kind in UNCALIBRATED or "every" in file.numbers
    if wanted is None or replaced or fits_all or loaded.made(net):
        return
    if fingerprint(cast(nn.Module, net)) != wanted:
        raise ConfigError(
            f"{loaded.path}: the method was made on other weights than these. Make one for them "
            "with `schedsearch plan` or `schedsearch compare`."
        )
