"""Prefix scores against a sum over every path of frames."""

import itertools
import math

import pytest
import torch

from echo.evaluate.ctc_prefix import CANDIDATES, CtcPrefixScorer, CtcTextScorer

BLANK, END, START, A, B = range(5)
SPECIAL = torch.tensor([BLANK, END, START])


def random_logits(*shape):
    """Of a head that has learned to emit no special token but the blank."""
    logits = torch.randn(*shape)
    logits[..., [END, START]] = -1e4
    return logits


def scorer(logits, lengths, weight=1.0):
    return CtcPrefixScorer(logits, torch.tensor(lengths), weight, BLANK, END, SPECIAL)


def transcripts(log):
    """Every transcript's probability, by collapsing all paths of (T, V) log probabilities."""
    found = {}
    for path in itertools.product((BLANK, A, B), repeat=len(log)):
        probability = sum(log[t, token] for t, token in enumerate(path)).exp().item()
        text = tuple(t for t, _ in itertools.groupby(path) if t != BLANK)
        found[text] = found.get(text, 0) + probability
    return found


@pytest.mark.parametrize("prefix", [(), (A,), (A, A), (A, B), (B, A, A)])
def test_scores_are_sums_over_paths(prefix):
    logits = random_logits(2, 6, 5)
    lengths = [6, 4]
    ids = torch.tensor([[START, *prefix]] * 2)
    scores = scorer(logits, lengths)(ids, torch.zeros(2, 5))
    for row, length in enumerate(lengths):
        texts = transcripts(logits[row, :length].log_softmax(-1))

        def begins(start, texts=texts):
            return sum(p for text, p in texts.items() if text[: len(start)] == start)

        for token in (A, B):
            wanted = begins((*prefix, token)) / begins(prefix)
            assert scores[row, token].exp().item() == pytest.approx(wanted, rel=1e-4, abs=1e-9)
        wanted = texts.get(prefix, 0) / begins(prefix)
        assert scores[row, END].exp().item() == pytest.approx(wanted, rel=1e-4, abs=1e-9)
        assert (scores[row, [BLANK, START]] < -1e9).all()


def test_beams_add_up_to_the_score_of_the_whole_text():
    logits = random_logits(1, 6, 5)
    ids, own, total = torch.tensor([[START, A, B, B, END]]), torch.randn(4, 1, 5), 0.0
    going = scorer(logits, [6], 0.3)
    for step, token in enumerate(ids[0, 1:]):
        total += going(ids[:, : step + 1], own[step])[0, token].item()
    alone = sum(own[i].log_softmax(-1)[0, t].item() for i, t in enumerate(ids[0, 1:]))
    heard = transcripts(logits[0].log_softmax(-1))[A, B, B]
    assert total == pytest.approx(0.7 * alone + 0.3 * math.log(heard), rel=1e-4)


def test_going_on_from_a_prefix_is_scoring_it_anew():
    """And so is a beam that has changed places."""
    logits, lengths = random_logits(2, 8, 5), [8, 5]
    going = scorer(logits, lengths)
    going(torch.tensor([[START], [START]]), torch.zeros(2, 5))
    going(torch.tensor([[START, A], [START, B]]), torch.zeros(2, 5))
    for ids in ([[START, A, A], [START, B, A]], [[START, B, A, B], [START, A, B, B]]):
        ids = torch.tensor(ids)
        anew = scorer(logits, lengths)(ids, torch.zeros(2, 5))
        torch.testing.assert_close(going(ids, torch.zeros(2, 5)), anew)


def test_the_weight_interpolates():
    logits, scores = random_logits(1, 5, 5), torch.randn(1, 5)
    ids = torch.tensor([[START, A]])
    ctc = scorer(logits, [5], 1.0)(ids, scores)
    torch.testing.assert_close(
        scorer(logits, [5], 0.3)(ids, scores), 0.7 * scores.log_softmax(-1) + 0.3 * ctc
    )
    torch.testing.assert_close(scorer(logits, [5], 0.0)(ids, scores), scores.log_softmax(-1))


SPELLING = {0: [A], 1: [A, B], 2: [B, A, A], 3: [], 4: [B]}  # the head's tokens of a decoder's
STOP, PROMPT = 5, 6


def probability_of(beginning, texts):
    return sum(p for text, p in texts.items() if text[: len(beginning)] == beginning)


def text_scorer(logits, lengths, weight=1.0):
    return CtcTextScorer(
        logits, torch.tensor(lengths), weight, BLANK, STOP, lambda token: SPELLING.get(token, [])
    )


@pytest.mark.parametrize("prefix", [(), (0,), (1, 3), (4, 0)])
def test_a_tokens_text_is_scored_over_all_paths(prefix):
    """Given the text so far; one without text is as probable as that."""
    logits, lengths = random_logits(2, 6, 5), [6, 5]
    scorer = text_scorer(logits, lengths)
    for end in range(len(prefix) + 1):  # token by token, as the decoder writes
        scores = scorer(torch.tensor([[PROMPT, PROMPT, *prefix[:end]]] * 2), torch.zeros(2, 7))
    said = tuple(letter for token in prefix for letter in SPELLING[token])
    for row, length in enumerate(lengths):
        texts = transcripts(logits[row, :length].log_softmax(-1))
        begun = probability_of(said, texts)
        for token, letters in SPELLING.items():
            wanted = probability_of((*said, *letters), texts) / begun
            assert scores[row, token].exp().item() == pytest.approx(wanted, rel=1e-3, abs=1e-7)
        wanted = texts.get(said, 0) / begun
        assert scores[row, STOP].exp().item() == pytest.approx(wanted, rel=1e-3, abs=1e-7)


def test_only_the_decoders_best_tokens_and_the_end_are_scored():
    logits = random_logits(1, 6, 5)
    scores = torch.randn(1, 100)
    scores[0, STOP] = -50
    found = text_scorer(logits, [6], 0.5)(torch.tensor([[PROMPT]]), scores)
    kept = found.isfinite().nonzero()[:, 1].tolist()
    assert {*kept} == {*scores.topk(CANDIDATES - 1).indices[0].tolist(), STOP}
