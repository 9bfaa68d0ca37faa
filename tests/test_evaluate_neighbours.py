import numpy as np
import oracles_evaluate as oracle
import pytest

from fairjax.evaluate.neighbours import memorisation_figure, nearest


def test_nearest_agrees_with_all_distances_and_finds_planted_copies():
    rng = np.random.default_rng(0)
    training = 50 + rng.normal(size=(300, 16))
    samples = 50 + rng.normal(size=(1100, 16))  # more than one block of rows
    samples[7], samples[1050] = training[123], training[5]
    index, distance = nearest(samples, training)
    expected_index, expected_distance = oracle.nearest(samples, training)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_allclose(distance, expected_distance, atol=1e-9)
    assert (index[7], index[1050]) == (123, 5)
    assert distance[7] == distance[1050] == 0


def test_nearest_of_nothing_and_refusals():
    index, distance = nearest(np.zeros((0, 4)), np.zeros((3, 4)))
    assert index.shape == distance.shape == (0,)
    with pytest.raises(ValueError, match="cannot compare"):
        nearest(np.zeros((2, 4)), np.zeros((0, 4)))


def test_new_samples_give_a_twentieth_and_copies_one():
    rng = np.random.default_rng(1)
    new, held_out = rng.gamma(20, size=2000), rng.gamma(20, size=400)
    figure = memorisation_figure("memorisation/x", new, held_out)
    assert figure.low < 0.05 < figure.high
    assert figure.value == pytest.approx(0.05, abs=0.03)
    assert figure.note == ""
    copies = memorisation_figure("memorisation/x", np.full(100, 1e-3), held_out)
    assert (copies.value, copies.high, copies.n) == (1, 1, 100)
    assert copies.low == pytest.approx(100 / (100 + 1.96**2))  # Wilson's, of 100 of 100
    none = memorisation_figure("memorisation/x", np.full(60, 1e3), held_out)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1.96**2 / (60 + 1.96**2))


def test_few_held_out_images_are_insufficient_evidence():
    figure = memorisation_figure("memorisation/x", np.ones(100), np.arange(49.0) + 1)
    assert figure.note.startswith("insufficient evidence: 49 held-out images")
    with pytest.raises(ValueError, match="at least one"):
        memorisation_figure("memorisation/x", np.ones(3), np.zeros(0))
