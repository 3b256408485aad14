"""Guidance of the first channels alone in diffusers' DiT."""

import copy
import pickle

import pytest
import torch
from torch import nn

from benchmarks.tiny_pipelines import PIPELINES
from schedsearch.apply.guided_channels import guide_channels
from schedsearch.exceptions import ConfigError


def test_only_guided_rows_get_the_other_channels_of_their_twins() -> None:
    model = PIPELINES["DiT"].model()
    channels = model.config.in_channels
    x = torch.randn(4, channels, *(2 * [model.config.sample_size]))
    t, null = torch.full((4,), 500), model.config.num_embeds_ada_norm
    labels = {
        "guided": torch.tensor([3, 5, null, null]),
        "plain": torch.tensor([3, 5, 7, 1]),
        "null": torch.tensor([null] * 4),
    }
    with torch.no_grad():
        before = {name: model(x, t, y, return_dict=False)[0] for name, y in labels.items()}
        odd = model(x[:3], t[:3], labels["plain"][:3]).sample
        guide_channels(model, 1)
        for net in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert net(x[:3], t[:3], labels["plain"][:3]).sample.equal(odd)
            after = {name: net(x, timestep=t, class_labels=y).sample for name, y in labels.items()}
            assert after["plain"].equal(before["plain"])
            assert after["null"].equal(before["null"])
            expected = before["guided"].clone()
            expected[2:, 1:channels] = expected[:2, 1:channels]
            assert after["guided"].equal(expected)
            assert net(x, t, labels["guided"], return_dict=False)[0].equal(expected)


def test_other_models_and_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"DiTTransformer2DModel, got Linear. Give pipe"):
        guide_channels(nn.Linear(1, 1), 3)
    model = PIPELINES["DiT"].model()
    with pytest.raises(ConfigError, match="num_channels must be in"):
        guide_channels(model, model.config.in_channels + 1)
