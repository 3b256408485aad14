"""``torch.compile`` for networks with exits."""

from __future__ import annotations

from torch import nn

from schedsearch.exceptions import ConfigError


def compile_blocks(net: nn.Module) -> int:
    """Compile the repeated blocks of a network in place, each by itself.

    The exit depth is decided outside of the blocks, so all depths share the graphs: one for a
    DiT, three for a U-ViT (encoder, decoder, and decoder past the exit). Compiled as a whole, a
    network would be traced anew for every depth, up to torch's limit of eight. Shapes are taken
    as fixed: graphs for any batch size would be slower than those of the one that is used.

    Args:
        net: A network whose repeated blocks lie in an ``nn.ModuleList``; others of their classes
            are compiled too.

    Returns:
        How many blocks were compiled.

    Raises:
        ConfigError: If it has no such blocks.
    """
    lists = [module for module in net.modules() if isinstance(module, nn.ModuleList)]
    kinds = tuple({type(block) for blocks in lists for block in blocks})
    found = [module for module in net.modules() if kinds and isinstance(module, kinds)]
    if not found:
        raise ConfigError(
            f"To be compiled, a network must keep its repeated blocks in an nn.ModuleList, and "
            f"{type(net).__name__} has none. Set evaluation.latency_compile to false."
        )
    for block in found:
        block.compile(dynamic=False)
    return len(found)
