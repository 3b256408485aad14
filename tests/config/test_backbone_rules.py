"""The checks of a backbone section agree with the network itself."""

import inspect

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.registry import REGISTRY as BUILT
from schedsearch.config.backbone_rules import REGISTRY, DitArguments, dit_arguments
from schedsearch.settings import BackboneSettings


def test_arguments_and_defaults_are_those_of_the_network() -> None:
    parameters = inspect.signature(DiT).parameters.values()
    ours = DitArguments()
    assert {p.name: p.default for p in parameters} == {
        name: getattr(ours, name) for name in DitArguments.__dataclass_fields__
    }


def test_registry_is_the_one_that_is_built() -> None:
    # Written twice because the checks must not import torch.
    assert {name: ("dit", fixed) for name, fixed in REGISTRY.items()} == {
        name: (family, dict(arguments)) for name, (family, arguments) in BUILT.items()
    }


def test_registry_names_fix_their_arguments() -> None:
    arguments = dit_arguments(BackboneSettings(name="DiT-L/4", config={"in_channels": 3}))
    assert arguments == DitArguments(
        patch_size=4, in_channels=3, hidden_size=1024, depth=24, num_heads=16
    )
    assert dit_arguments(BackboneSettings(family="my_lab.nets:Net")) is None
