"""What changes only how a fine-tune is computed: parts, precision, recomputation."""

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from tiny_finetunes import ListProgress, SpyData, finetune, make_net, make_recipe, make_uvit
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.exceptions import ConfigError
from trainers.options import checkpointing


def test_parts_of_a_batch_give_its_gradient() -> None:
    """16 samples in 3 uneven parts: the same data, losses and weights up to rounding."""
    runs = []
    for accumulate in (1, 3, 16):
        data, progress = SpyData(), ListProgress()
        recipe = make_recipe(num_steps=4, accumulate=accumulate, weight_decay=0.1)
        trained = finetune(make_net(learn_sigma=True), recipe, progress, data=data)
        runs.append((trained.state_dict(), progress, torch.stack(data.drawn)))
    whole, whole_progress, drawn = runs[0]
    for state, progress, parts_drawn in runs[1:]:
        assert torch.equal(parts_drawn, drawn)
        assert progress.losses == pytest.approx(whole_progress.losses, rel=1e-4)
        norms = [values["grad_norm"] for values in progress.values]
        expected = [values["grad_norm"] for values in whole_progress.values]
        assert norms == pytest.approx(expected, rel=1e-3)
        torch.testing.assert_close(state, whole, rtol=1e-3, atol=1e-4)


def test_more_parts_than_samples() -> None:
    with pytest.raises(ConfigError, match=r"accumulate 17 .* at most recipe.batch_size"):
        finetune(make_net(), make_recipe(accumulate=17))


class SpyNet(DiT):
    """Notes how it is run."""

    def __init__(self) -> None:
        super().__init__(8, 4, 1, 16, 3, 2, num_classes=10, learn_sigma=False)
        self.gradient_checkpointing = False
        self.seen: list[tuple[bool, bool, str]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        products = cast(Any, torch.backends).cuda.matmul.fp32_precision
        autocast = torch.is_autocast_enabled("cpu")
        self.seen.append((autocast, self.gradient_checkpointing, products))
        return super().forward(*args, **kwargs)


def test_bfloat16_runs_the_network_alone_in_autocast() -> None:
    net, progress, exact = SpyNet(), ListProgress(), ListProgress()
    trained = finetune(net, make_recipe(precision="bf16"), progress)
    assert net.seen == [(True, False, "ieee")] * 6
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    torch.manual_seed(0)
    finetune(SpyNet(), make_recipe(), exact)
    assert progress.losses == pytest.approx(exact.losses, rel=0.2)
    assert all(math.isfinite(loss) for loss in progress.losses)


def test_tf32_is_set_during_training_only() -> None:
    matmul = cast(Any, torch.backends).cuda.matmul
    before = matmul.fp32_precision
    net = SpyNet()
    finetune(net, make_recipe(num_steps=1, precision="tf32"))
    assert net.seen == [(False, False, "tf32")]
    assert matmul.fp32_precision == before
    with pytest.raises(ConfigError):
        finetune(SpyNet(), make_recipe(precision="tf32"), data=SpyData(labelled=False))
    assert matmul.fp32_precision == before


def test_gradient_checkpointing_is_on_during_training_only() -> None:
    net = SpyNet()
    trained = finetune(net, make_recipe(num_steps=2, gradient_checkpointing=True))
    assert [checkpointing for _, checkpointing, _ in net.seen] == [True, True]
    assert isinstance(trained, SpyNet)
    assert not net.gradient_checkpointing
    assert not trained.gradient_checkpointing
    plain = nn.Linear(1, 1)
    with (
        pytest.raises(ConfigError, match="'gradient_checkpointing', but Linear has none"),
        checkpointing(plain, enabled=True),
    ):
        pass


@pytest.mark.parametrize("make", [lambda: make_net(), lambda: make_uvit()], ids=["dit", "uvit"])
def test_gradient_checkpointing_changes_no_result(make: Callable[[], nn.Module]) -> None:
    plain, saving = (
        finetune(make(), make_recipe(num_steps=3, gradient_checkpointing=on, label_dropout=0.0))
        for on in (False, True)
    )
    torch.testing.assert_close(plain.state_dict(), saving.state_dict())
