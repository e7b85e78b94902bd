"""Decoding that does not end by itself is stopped, and no other."""

import pytest
import torch

from echo.model.fallback import LOOP_TOKENS, MAX_PERIOD, StopRunaway, loops, most_tokens


def first_loop(tokens):
    """The number of tokens at which a list first ends in a loop, in plain Python."""
    for n in range(len(tokens) + 1):
        for period in range(1, MAX_PERIOD + 1):
            if n >= LOOP_TOKENS + period and all(
                tokens[i] == tokens[i - period] for i in range(n - LOOP_TOKENS, n)
            ):
                return n
    return None


@pytest.mark.parametrize("period", [1, 2, 7, MAX_PERIOD, MAX_PERIOD + 1])
@pytest.mark.parametrize("before", [0, 5, 60])
def test_a_loop_is_found_at_once_whatever_comes_before(period, before):
    start, cycle = torch.randperm(1000)[:before], 1000 + torch.randperm(100)[:period]
    tokens = torch.cat([start, cycle.repeat(LOOP_TOKENS // period + 2)])
    stop = StopRunaway([10_000], prompt=0)
    found = stop.stopped_at(0, tokens)
    assert found == first_loop(tokens.tolist())
    assert (found is None) == (period > MAX_PERIOD)
    if found:
        assert found == before + LOOP_TOKENS + period
        assert stop(tokens[None, :found], None).all()
        assert not stop(tokens[None, : found - 1], None).any()


def test_what_is_said_a_few_times_is_no_loop():
    counting = torch.tensor([*range(10)] * 4 + [7] * 30 + [1, 2, 3, 3] * 8)
    assert StopRunaway([1000], 0).stopped_at(0, counting) is None
    assert not loops(torch.zeros(2, LOOP_TOKENS, dtype=torch.long)).any()


def test_each_row_and_its_beams_have_their_own_limit_after_the_prompt():
    stop = StopRunaway([3, 5], prompt=2)
    tokens = torch.arange(4 * 7).reshape(4, 7)  # two beams a row
    stopped = [stop(tokens[:, :n], None).tolist() for n in (4, 5, 6, 7)]
    first = [True, True, False, False]
    assert stopped == [[False] * 4, first, first, [True] * 4]
    assert stop.stopped_at(0, tokens[0]) == 3
    assert stop.stopped_at(1, tokens[0, :4]) is None


def test_more_speech_has_more_tokens():
    assert [most_tokens(seconds) for seconds in (0, 0.64, 2)] == [16, 36, 76]
