"""What training says of the wait for data."""

import logging

import pytest

from echo.train.watch import DataWatch


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
