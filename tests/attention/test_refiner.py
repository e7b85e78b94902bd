"""The refiner: alive at the start, seeded, saved, frozen in evaluation, and it learns."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.checkpoint import checkpoint

from echo.attention.focus import FocusAttention, FocusSettings
from echo.attention.refiner import QTable
from tests.attention.refiners import replace_refiner

DIMS, HEADS = 16, 2


def refined_block(causal=False, seed=0):
    torch.manual_seed(seed)
    settings = FocusSettings(max_span=12, window=8, refiner=True)
    return FocusAttention(settings, DIMS, HEADS, causal)


def states(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, 2 * DIMS, generator=generator) * 2 - 1


def test_an_unseen_state_keeps_the_whole_span():
    keep, _ = QTable().choose(states(), explore=False)
    assert (keep == 1).all()


def test_states_are_told_apart_and_hashed_alike_everywhere():
    table, far = QTable(), states(200)
    hashed = table.hash(far)
    assert len(hashed.unique()) > 550  # of 600, in 10,000 places
    assert table.hash(torch.full((1, 1, 4), 0.5)).item() == 5852


def test_a_mean_or_variance_falls_into_one_of_ten_bins():
    """Of a fifth each, from -1 to 1; the outer two also hold what lies beyond."""
    given = [-1e30, -1.0, -0.81, -0.79, -0.61, -0.01, 0.01, 0.79, 0.81, 1.0, 1e30]
    bins = [0, 0, 0, 1, 1, 4, 5, 8, 9, 9, 9]
    hashed = QTable().hash(torch.tensor(given)[None, :, None])[0].tolist()
    assert all(0 <= place < QTable.states for place in hashed)
    places = dict(zip(bins, hashed, strict=True))
    assert [places[i] for i in bins] == hashed
    assert len(set(places.values())) == len(places)


def test_draws_follow_the_seed_and_explore_as_often_as_told():
    first, again, other = (refined_block(seed=seed).refiner for seed in (3, 3, 4))
    drawn = [[t.choose(states(300), explore=True)[0] for _ in range(3)] for t in (first, again)]
    assert all(map(torch.equal, *drawn))
    assert not torch.equal(drawn[0][0], other.choose(states(300), explore=True)[0])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    explored = (torch.cat(drawn[0]) < 1).float().mean()
    assert 0.07 < explored < 0.11  # ε = 0.1, of which one in ten keeps everything
    _, counts = torch.cat(drawn[0]).unique(return_counts=True)
    assert len(counts) == QTable.actions
    assert (counts[:-1] > 0.5 * counts[:-1].float().mean()).all()  # each about as often


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_frozen_in_evaluation_and_saved_with_the_model(causal):
    block, x = refined_block(causal), torch.randn(2, 20, DIMS)
    for _ in range(5):
        block.train()(x)
    learned = block.refiner.values.clone()
    assert learned.abs().sum() > 0
    assert torch.isfinite(learned).all()
    calls = block.refiner.calls.clone()
    assert torch.equal(block.eval()(x)[0], block(x)[0])
    assert torch.equal(block.refiner.values, learned)
    assert block.refiner.calls == calls

    copy = refined_block(causal, seed=9)
    copy.load_state_dict(block.state_dict())
    assert torch.equal(copy.train()(x)[0], block.train()(x)[0])


def test_the_reward_is_finite_whatever_is_seen():
    block = refined_block()
    block.train()
    with torch.no_grad():
        block.span_predictor.linear.bias.fill_(-20)  # no frame is seen
    y, span = block(torch.randn(2, 9, DIMS))
    assert torch.isfinite(y).all()
    assert torch.isfinite(block.refiner.values).all()
    assert (span < 1e-6).all()


def test_one_update_is_that_of_q_learning():
    table = QTable()
    table.values.normal_()
    before = table.values.clone()
    state, following = states(1)[:, :1], states(1, seed=1)[:, :1]
    keep, choice = table.choose(state, explore=False)
    table.learn(choice, torch.tensor([[0.7]]), following, torch.tensor([[True]]))
    s, n = table.hash(state).item(), table.hash(following).item()
    a = before[s].argmax()
    assert keep.item() == pytest.approx(a.item() / 9)
    before[s, a] += 0.1 * (0.7 + 0.9 * before[n].max() - before[s, a])
    torch.testing.assert_close(table.values, before)


def test_a_choice_made_twice_moves_towards_the_mean_of_its_targets():
    table = QTable()
    state = states(1)[:, :1].expand(3, 1, -1)
    _, choice = table.choose(state, explore=False)
    reward = torch.tensor([[1.0], [4.0], [100.0]])
    table.learn(choice, reward, state, torch.tensor([[True], [True], [False]]))
    assert table.values[table.hash(state)[0], 9].item() == pytest.approx(0.1 * 2.5)
    assert (table.values != 0).sum() == 1


@pytest.mark.slow
def test_choices_move_to_where_the_reward_is():
    """Where less of the span earns more, less of it is what is chosen in the end."""
    torch.manual_seed(0)
    table, state = QTable(), states(1)[:, :1]
    for _ in range(6000):
        keep, choice = table.choose(state, explore=True)
        table.learn(choice, 1 - keep, state, torch.ones_like(keep, dtype=torch.bool))
    assert table.choose(state, explore=False)[0].item() < 0.3


def test_it_learns_within_its_block():
    """A window over one frame has no entropy and full coverage, which earns the most where wide
    windows spread over frames that are all alike."""
    block = refined_block()
    with torch.no_grad():
        block.span_predictor.linear.bias.fill_(2.0)
    block.train()
    torch.manual_seed(0)
    x = torch.randn(1, 1, DIMS).expand(32, 24, DIMS)
    for _ in range(200):
        block(x)
    full = torch.sigmoid(torch.tensor(2.0)).item()
    with torch.no_grad():
        span = block.eval()(x)[1][0].item()
    assert span < 0.5 * full


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(causal, reentrant):
    """Neither what is drawn and learned nor a gradient."""
    found = []
    for checkpointed in (False, True):
        block = refined_block(causal).train()
        torch.manual_seed(1)
        for _ in range(12):
            x = torch.randn(2, 20, DIMS, requires_grad=True)
            if checkpointed:
                y, _ = checkpoint(block, x, use_reentrant=reentrant)
            else:
                y, _ = block(x)
            y.square().sum().backward()
            found.append(x.grad)
        found += [p.grad for p in block.parameters() if p.grad is not None]
        found += [block.refiner.values, block.refiner.calls]
    half = len(found) // 2
    assert (block.refiner.values != 0).any()
    for one, other in zip(found[:half], found[half:], strict=True):
        assert (one - other).float().norm() <= 1e-3 * one.float().norm()


@pytest.mark.parametrize("causal", [False, True])
def test_nothing_is_learned_of_padding(causal):
    alone, block = refined_block(causal), refined_block(causal)
    x = torch.randn(2, 20, DIMS)
    alone.train()(x[:1])
    assert (alone.refiner.values != 0).any()
    mask = torch.full((2, 1, 20 if causal else 1, 20), torch.finfo(x.dtype).min)
    block.train()(x, mask)
    assert (block.refiner.values == 0).all()
    # Beside a row that is real, whose draws are then its own.
    mask[0] = 0
    if causal:
        mask[0] = torch.full((20, 20), torch.finfo(x.dtype).min).triu(1)
    block = refined_block(causal)
    block.refiner.draw = alone.refiner.draw = lambda shape: torch.ones(2, *shape)
    alone.refiner.values.zero_()
    alone(x[:1])
    block.train()(x, mask)
    assert torch.equal(block.refiner.values, alone.refiner.values)


class Halving:
    """Another refiner, which is no module."""

    def __init__(self):
        self.rewards = []

    def choose(self, state, explore):
        return torch.full(state.shape[:2], 0.5), "the choice"

    def learn(self, choice, reward, next_state, real):
        assert choice == "the choice"
        self.rewards.append(reward)


class Listening:
    """A refiner that keeps the whole span and what it is told."""

    def choose(self, state, explore):
        self.state = state
        return torch.ones(state.shape[:2]), None

    def learn(self, choice, reward, next_state, real):
        self.reward, self.next_state, self.real = reward, next_state, real


@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "decoder"])
def test_it_is_told_the_statistics_and_the_reward_of_each_utterance(causal):
    """Both computed with loops, from the keys and from the attention maps of the last round."""
    frames, lengths = 26, [26, 26 if causal else 15]
    block = refined_block(causal).double()
    with torch.no_grad():
        block.span_predictor.linear.weight.normal_(std=0.5)
        block.ln_local.weight.normal_(1, 0.5)
    replace_refiner(block, Listening())
    real = torch.arange(frames) < torch.tensor(lengths)[:, None]
    mask = torch.zeros(2, 1, 1, frames).double()
    mask = mask.masked_fill(~real[:, None, None], torch.finfo(mask.dtype).min)
    x = torch.randn(2, frames, DIMS, dtype=torch.double)
    with torch.no_grad():
        branches = block.train().branches(x, None if causal else mask)
        normalised = block.ln_local(x)
    told = block.refiner
    for row in range(2):
        length = lengths[row]
        parts = [(t, range(t + 1), [t]) for t in range(length)]
        for place, past, asking in parts if causal else [(0, range(length), range(length))]:
            for found, of in ((told.state, normalised), (told.next_state, branches.local_out)):
                values = of[row, list(past)].float()
                variance = values.var(0, unbiased=False)
                wanted = torch.cat([values.mean(0), variance])
                torch.testing.assert_close(found[row, place], wanted, rtol=1e-3, atol=1e-5)
            covered = seen = entropy = 0
            for h in range(HEADS):
                for t in asking:
                    span = branches.window.span[row, :, place]
                    end = None if causal else torch.tensor(length)
                    keys = torch.arange(length)
                    visible = block.rule.weights(torch.tensor(t), keys, span, end) > 0
                    query, key = branches.local_query[row, h, t], branches.local_key[row, h]
                    exps = [math.exp(query @ key[j]) for j in keys[visible]]
                    weights = [e / sum(exps) for e in exps]
                    covered += sum(w > 0.01 for w in weights)
                    seen += len(weights)
                    entropy -= sum(w * math.log(w) for w in weights)
            wanted = covered / max(seen, HEADS) - 0.1 * entropy / HEADS / len(asking)
            assert told.reward[row, place].item() == pytest.approx(wanted, abs=1e-5)
    assert told.reward.std() > 0.001  # or it would say nothing
    assert told.real.all()


def test_another_object_may_take_its_place():
    block, x = refined_block(), torch.randn(3, 20, DIMS)
    whole = block.eval()(x)[1]
    replace_refiner(block, Halving())
    assert torch.equal(block(x)[1], whole / 2)
    block.train()(x)
    assert block.refiner.rewards[0].shape == (3, 1)


def learn_on_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    block = refined_block()
    block.train()
    torch.manual_seed(rank)
    for _ in range(3):
        block(torch.randn(1 + rank, 12, DIMS))
    torch.save(block.refiner.values, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_learn_from_each_other(tmp_path):
    mp.spawn(learn_on_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    assert (first != 0).sum() > 3  # more than one rank alone can have learned
