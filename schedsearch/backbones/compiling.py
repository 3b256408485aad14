"""``torch.compile`` for networks with exits."""

from __future__ import annotations

from torch import nn

from schedsearch.exceptions import ConfigError


def compile_blocks(net: nn.Module) -> int:
    """Compile the repeated blocks of a network in place, one by one.

    The exit depth acts outside the blocks, so all depths share the graphs: one for a DiT, three
    for a U-ViT. A network compiled as a whole would be retraced for every depth.

    Args:
        net: A network with its repeated blocks in an ``nn.ModuleList``. Modules of the same
            classes elsewhere are compiled too.

    Returns:
        Number of compiled blocks.

    Raises:
        ConfigError: If the network has no such blocks.
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
        # NOTE: Graphs for one fixed batch size are faster than dynamic ones.
        block.compile(dynamic=False)
    return len(found)
