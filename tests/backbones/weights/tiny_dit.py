"""A tiny DiT for tests of weights."""

import torch
from torch import nn

from schedsearch.backbones.dit import DiT

CONFIG = {
    "input_size": 8,
    "patch_size": 4,
    "in_channels": 1,
    "hidden_size": 16,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 3,
    "learn_sigma": False,
}


def make_net(seed: int, **overrides: object) -> DiT:
    torch.manual_seed(seed)
    net = DiT(**{**CONFIG, **overrides})
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net
