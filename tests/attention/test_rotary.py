import torch

from echo.attention.global_branch import rotate


def test_scores_depend_on_distances_alone():
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.double).expand(-1, 1, 1, 20, 8)
    scores = rotate(query, 100.0, 0) @ rotate(key, 100.0, 0).mT
    for distance in range(-19, 20):
        assert scores[0, 0].diagonal(distance).std(unbiased=False) < 1e-12
    moved = rotate(query, 100.0, 7) @ rotate(key, 100.0, 7).mT
    torch.testing.assert_close(moved, scores)
    assert scores[0, 0, 0].std() > 0.1
    torch.testing.assert_close(rotate(query, 100.0, 3).norm(dim=-1), query.norm(dim=-1))


def test_each_pair_turns_at_its_own_frequency():
    """As complex numbers: the first by one radian a position, the others ever slower, in powers."""
    x = torch.randn(1, 1, 9, 8, dtype=torch.double)
    found = rotate(x, 100.0, 5)
    for pair in range(4):
        number = torch.complex(x[0, 0, :, pair], x[0, 0, :, pair + 4])
        angles = torch.arange(5, 14, dtype=torch.double) / 100 ** (pair / 4)
        turned = number * torch.polar(torch.ones_like(angles), angles)
        torch.testing.assert_close(found[0, 0, :, pair], turned.real)
        torch.testing.assert_close(found[0, 0, :, pair + 4], turned.imag)
