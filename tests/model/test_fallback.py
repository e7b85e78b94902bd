"""What `generate` draws where it is not content with the most probable tokens."""

import pytest
import torch

from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from tests.model.test_model import SIZES


@pytest.fixture
def model():
    """Untrained, so that what it draws is hardly ever the same by chance."""
    config = EchoConfig(**SIZES, attention={"decoder": "adaptive"}, init_std=0.2)
    model = EchoForConditionalGeneration(config).eval()
    model.generation_config.update(no_timestamps_token_id=59, is_multilingual=False)
    return model


def generate(model, features, **options):
    """With a threshold that no text keeps, so that all are decoded anew at a temperature."""
    given = {
        "temperature": (0.0, 0.9),
        "logprob_threshold": None,
        "compression_ratio_threshold": 0.0,
        "max_new_tokens": 12,
        **options,
    }
    mask = torch.ones(len(features), features.shape[-1], dtype=torch.long)
    return model.generate(features, attention_mask=mask, **given)


def test_draws_are_the_same_every_time_and_for_every_row(model):
    """Whatever was drawn before, and in a batch as alone; and others' draws are left alone."""
    features = torch.randn(1, 80, 200)
    greedy = generate(model, features, temperature=0.0, compression_ratio_threshold=None)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(generate(model, features))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)
    assert len(found[0][0]) > 5
    assert not torch.equal(found[0], greedy)
    for row in generate(model, features.repeat(3, 1, 1)):
        assert torch.equal(row, found[0][0])


def test_a_fallback_draws_as_sampling_does_that_is_seeded_with_0(model):
    features = torch.randn(1, 80, 200)
    found = generate(model, features)
    torch.manual_seed(0)
    sampled = generate(model, features, temperature=0.9, compression_ratio_threshold=None)
    assert torch.equal(found, sampled)
