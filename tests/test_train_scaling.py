"""The model of many devices, beside all-reduces that are carried out piece by piece."""

import numpy as np
import pytest

from fairjax.train import scaling

KIND = scaling.Hardware("two levels", 1e12, island=4, inside=100.0, between=10.0, latency=0.5)


def ring(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Sums the rows of `values` [n, size] along a ring; (each row's result, numbers sent by one).

    In round t device i passes on one piece of its row: first sums grow, then they go round.
    """
    n = len(values)
    pieces = values.reshape(n, n, -1).copy()
    sent = 0
    for t in range(2 * (n - 1)):
        growing = t < n - 1
        passed = [(i, (i - t + (not growing) * n) % n) for i in range(n)]
        moved = [pieces[i, k].copy() for i, k in passed]
        for (i, k), piece in zip(passed, moved, strict=True):
            there = pieces[(i + 1) % n]
            there[k] = there[k] + piece if growing else piece
        sent += moved[0].size
    return pieces.reshape(n, -1), sent


@pytest.mark.parametrize("n", [2, 4, 8])
def test_a_ring_sends_what_the_model_says(n):
    values = np.random.default_rng(n).normal(size=(n, 24 * n))
    sums, sent = ring(values)
    np.testing.assert_allclose(sums, np.tile(values.sum(0), (n, 1)), rtol=1e-12)
    assert sent == scaling.moved(n, values.shape[1])


def test_an_all_reduce_over_islands_is_three_rings():
    size = 960
    alone = scaling.all_reduce_seconds(KIND, 4, 1, size)
    _, inner = ring(np.ones((4, size)))
    assert alone == 0.5 + inner / 100
    many = scaling.all_reduce_seconds(KIND, 12, 2, size)
    _, outer = ring(np.ones((3, size // 4)))  # each device has a quarter of the sums of its island
    assert many == pytest.approx(2 * 0.5 + inner / 100 + outer / 10)
    assert scaling.all_reduce_seconds(KIND, 1, 3, size) == 0


def test_what_is_hidden_costs_nothing():
    assert scaling.efficiency(3.0, 1.0) == (0.75, 1.0)
    assert scaling.efficiency(1.0, 3.0) == (0.25, 1 / 3)
    assert scaling.efficiency(1.0, 0.0) == (1.0, 1.0)


def test_published_numbers_are_of_the_right_size():
    for hardware in scaling.HARDWARE:
        assert 1e13 < hardware.rate < 1e15
        assert hardware.inside > hardware.between
        # 100 MB of gradients, as in StyleGAN2 at 256 px, take milliseconds.
        assert 1e-4 < scaling.all_reduce_seconds(hardware, 256, 1, 1e8) < 1e-2
