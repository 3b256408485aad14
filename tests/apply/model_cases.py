"""Models of every family with a call, and the same model cut by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import official_modules as official
import torch
from torch import Tensor, nn

import schedsearch
from benchmarks.tiny_pipelines import NUM_BLOCKS, PIPELINES, random, truncated
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.uvit import UViT

SCHEDULE = schedsearch.ExitSchedule((6, 6, 5, 5, 4, 4, 3, 3, 2, 1))
"""Every depth of a model with six blocks."""

CLOCKS = (5.0, 99.0, 100.0, 450.0, 699.0, 700.0, 999.0)


@dataclass(frozen=True)
class Case:
    """One family.

    Args:
        name: For test ids.
        make: Makes the model, with equal weights every time.
        call: Runs it at times that it is fed, (N,).
        fed: Converts a clock time to what the model is fed.
        cut: Leaves only the first blocks of a model, in place.
        time: Argument of ``enable``.
    """

    name: str
    make: Callable[[], nn.Module]
    call: Callable[[nn.Module, Tensor], Tensor]
    fed: Callable[[float], float]
    cut: Callable[[nn.Module, int], nn.Module]
    time: str | None = None

    def at(self, model: nn.Module, clock: float, **kwargs: Any) -> Tensor:
        """Run two samples at one clock time."""
        with torch.no_grad():
            return self.call(model, torch.tensor(self.fed(clock)).expand(2), **kwargs)

    def expected(self, clock: float, **kwargs: Any) -> Tensor:
        """The same by a model that is cut by hand."""
        return self.at(self.cut(self.make(), SCHEDULE.depth_at(clock)), clock, **kwargs)

    def enable(self, model: Any) -> None:
        schedsearch.enable(model, SCHEDULE, time=self.time)


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return make().eval()

    return build


# ---- diffusers --------------------------------------------------------------------------------


def _dit(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    labels = torch.tensor([1, 2])
    return model(random(2, 4, 8, 8), timestep=t, class_labels=labels, **kwargs).sample


def _pixart(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    conditions = {"resolution": None, "aspect_ratio": None}
    inputs = {"encoder_hidden_states": random(2, 5, 12), "added_cond_kwargs": conditions}
    return model(random(2, 4, 8, 8), timestep=t, **inputs, **kwargs).sample


def _sana(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    return model(random(2, 4, 8, 8), random(2, 5, 12), t, **kwargs).sample


def _sd3(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    return model(random(2, 4, 8, 8), random(2, 7, 12), random(2, 8), t, **kwargs).sample


def _flux(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    ids = torch.zeros(16, 3)
    ids[:, 1], ids[:, 2] = torch.arange(16) // 4, torch.arange(16) % 4
    return model(
        random(2, 16, 16),
        encoder_hidden_states=random(2, 7, 12),
        pooled_projections=random(2, 8),
        timestep=t,
        img_ids=ids,
        txt_ids=torch.zeros(7, 3),
        guidance=torch.tensor([3.5, 3.5]),
        **kwargs,
    ).sample


def _diffusers(
    name: str, call: Callable[..., Tensor], fed: Callable[[float], float] = lambda t: t
) -> Case:
    pipeline = PIPELINES[name]
    return Case(
        name=name,
        make=pipeline.model,
        call=call,
        fed=fed,
        cut=lambda model, depth: truncated(model, pipeline.lists, depth),
    )


DIFFUSERS = (
    _diffusers("DiT", _dit),
    _diffusers("PixArt-alpha", _pixart),
    _diffusers("SD3", _sd3),
    _diffusers("FLUX", _flux, lambda t: t / 1000),
    _diffusers("Sana", _sana),
)

# ---- official code ----------------------------------------------------------------------------


def _labelled(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    output = model(random(2, 3, 4), t, torch.tensor([1, 2]), **kwargs)
    return output[0] if isinstance(output, tuple) else output


def _cut_blocks(model: nn.Module, depth: int) -> nn.Module:
    return truncated(model, ("blocks",), depth)


class _MergesOnly(nn.Module):
    """A decoder block without its transformation."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.skip_linear = block.skip_linear

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x if self.skip_linear is None else self.skip_linear(torch.cat([x, skip], -1))


def _cut_decoder(model: nn.Module, depth: int) -> nn.Module:
    blocks = list(model.out_blocks)
    model.out_blocks = nn.ModuleList([*blocks[:depth], *map(_MergesOnly, blocks[depth:])])
    return model


OFFICIAL = (
    Case("official DiT", seeded(official.DiT), _labelled, lambda t: t, _cut_blocks),
    Case(
        "official SiT", seeded(official.SiT), _labelled, lambda t: 1 - t / 1000, _cut_blocks, "sit"
    ),
    Case("official U-ViT", seeded(official.UViT), _labelled, lambda t: 0.999 * t, _cut_decoder),
)

# ---- our own ----------------------------------------------------------------------------------


def _own(model: nn.Module, t: Tensor, **kwargs: Any) -> Tensor:
    labels = None if model.num_classes is None else torch.tensor([1, 2])
    return model(random(2, *model.in_shape), t, labels, **kwargs)


def _with_random_weights(net: nn.Module) -> nn.Module:
    """Under the zeros of its initialisation a DiT's blocks would do nothing."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def own_dit() -> nn.Module:
    sizes = {"input_size": 8, "hidden_size": 32, "num_heads": 4, "num_classes": 7}
    return _with_random_weights(DiT(**sizes, in_channels=2, depth=NUM_BLOCKS))


def own_uvit() -> nn.Module:
    sizes = {"img_size": 8, "patch_size": 2, "embed_dim": 24, "num_heads": 4}
    return _with_random_weights(UViT(**sizes, depth=2 * NUM_BLOCKS))


class _AtDepth(nn.Module):
    """A backbone that always gets the same exit depth."""

    def __init__(self, net: nn.Module, depth: int) -> None:
        super().__init__()
        self.net, self.depth = net, depth
        self.num_classes, self.in_shape = net.num_classes, net.in_shape

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.net(x, t, y, exit_depth=self.depth)


OWN = (
    Case("own DiT", seeded(own_dit), _own, lambda t: t, _AtDepth),
    Case("own U-ViT", seeded(own_uvit), _own, lambda t: 0.999 * t, _AtDepth),
)

CASES = (*DIFFUSERS, *OFFICIAL, *OWN)


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that ``enable`` may change and ``disable`` has to restore."""
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_forward_pre_hooks_with_kwargs")
    return {
        name: (
            type(module),
            sorted(key for key in vars(module) if key != "_diffusers_hook"),
            [len(getattr(module, kind)) for kind in hooks],
        )
        for name, module in model.named_modules()
    }
