"""What training says of the blocks, and of the wait for data."""

import logging

import pytest
import torch
from torch import nn

from echo.attention.forms import FORMS, read_settings
from echo.train.watch import AttentionWatch, DataWatch


def test_the_wait_for_data_is_a_share_since_the_last_line(caplog):
    watch = DataWatch()
    with caplog.at_level(logging.WARNING):
        watch.add(waited=3.0, seconds=4.0)  # the workers start
        assert watch.measure() == {"data_wait": 0.75}
        watch.add(0.0, 1.0)
        watch.add(0.1, 3.0)
        assert watch.measure() == {"data_wait": pytest.approx(0.025)}
        assert not caplog.records
        for _ in range(3):
            watch.add(1.0, 4.0)
            assert watch.measure() == {"data_wait": 0.25}
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "25 % of the time goes into waiting for data: raise data.workers"
    )


@pytest.mark.parametrize("form", ["adaptive", "hybrid", "scaled", "focus"])
def test_the_gain_of_a_block_is_that_of_its_local_branch(form):
    settings = read_settings({"form": form, "local_gain": 0.5}, "attention")
    block = FORMS[form](settings, dims=16, heads=2).train()
    watch = AttentionWatch(nn.ModuleDict({"block": block}))
    block(torch.randn(1, 20, 16))
    assert watch.measure()["gain/block"] == pytest.approx(0.5)
    with torch.no_grad():
        if form == "adaptive":
            block.local_gain.copy_(torch.tensor([0.3, -0.1]).repeat(8))
            expected = 0.2
        else:
            block.projection.weight[:, :16] *= 2
            block.projection.weight[:, 16:] *= 4
            expected = 0.25
    assert watch.measure()["gain/block"] == pytest.approx(expected)
