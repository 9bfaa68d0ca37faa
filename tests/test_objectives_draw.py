import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fairjax.objectives.draw import Stratum, balanced, draw, stratified, uniform, weighted

WEIGHTS = np.array([0.0, 1.0, 5.0, 0.5, 0.0, 3.5])
TABLES = {
    "uniform": uniform(np.arange(3, 40), 32),
    "weighted": weighted(WEIGHTS, 32),
    "stratified": weighted(WEIGHTS, 32, order=-np.arange(6.0)),
    "balanced": balanced([np.arange(20), np.arange(20, 23)], 32),
}


@pytest.mark.parametrize("name", TABLES)
@given(seed=st.integers(0, 2**63 - 1), step=st.integers(0, 10**12))
@settings(max_examples=25, deadline=None)
def test_a_draw_is_a_function_of_seed_and_step(name, seed, step):
    table = TABLES[name]
    first = draw(seed, step, table)
    assert first.dtype == np.int32
    assert first.shape == (32,)
    np.testing.assert_array_equal(first, draw(seed, np.int64(step), table))
    assert not np.array_equal(first, draw(seed, step + 1, table))
    assert not np.array_equal(first, draw(seed + 1, step, table))


def test_steps_do_not_share_numbers():
    table = uniform(np.arange(10**6), 16)
    drawn = np.concatenate([draw(7, step, table) for step in range(500)])
    repeats = len(drawn) - len(np.unique(drawn))
    assert repeats < 60  # by chance 8000**2 / 2 / 10**6 = 32; a shared stream gives thousands


def frequencies(table, n, steps=400):
    drawn = np.concatenate([draw(11, step, table) for step in range(steps)])
    return np.bincount(drawn, minlength=n)


@pytest.mark.parametrize("name", ["weighted", "stratified"])
def test_resampling_follows_the_weights(name):
    counts = frequencies(TABLES[name], 6)
    there = WEIGHTS > 0
    assert counts[~there].sum() == 0
    expected = counts.sum() * WEIGHTS[there] / WEIGHTS.sum()
    assert chisquare(counts[there], expected).pvalue > 1e-3


def test_uniform_draws_are_uniform():
    counts = frequencies(TABLES["uniform"], 40)
    assert counts[:3].sum() == 0
    assert chisquare(counts[3:]).pvalue > 1e-3


def test_balanced_draws_hold_each_set_in_each_batch():
    for step in range(20):
        assert (draw(0, step, TABLES["balanced"]) < 20).sum() == 16
    plain = (Stratum(np.arange(20), 16), Stratum(np.arange(20, 23), 16))
    np.testing.assert_array_equal(draw(5, 3, TABLES["balanced"]), draw(5, 3, plain))


SETS = np.split(np.arange(100), [49, 50, 51])  # of 49, 1, 1 and 49 positions


@pytest.mark.parametrize(
    ("made", "sets", "batch", "expected"),
    [
        (balanced, SETS, 2, [0.5] * 4),
        (balanced, SETS, 10, [2.5] * 4),
        (balanced, SETS[:3], 8, [8 / 3] * 3),
        (stratified, SETS, 32, [15.68, 0.32, 0.32, 15.68]),
        (stratified, SETS[2:], 5, [0.1, 4.9]),
    ],
)
def test_what_does_not_divide_is_drawn_from_each_set_at_its_rate(made, sets, batch, expected):
    table = made(sets, batch)
    drawn = np.stack([draw(2, step, table) for step in range(4000)])
    counts = np.stack([np.isin(drawn, s).sum(1) for s in sets], 1)  # [steps, sets]
    assert (counts.sum(1) == batch).all()
    assert (counts >= np.floor(expected)).all()
    assert (counts <= np.floor(expected) + 2).all()
    np.testing.assert_allclose(counts.mean(0), expected, atol=0.05)
    for s in sets:  # within a set every position is as likely
        assert len(s) == 1 or chisquare(np.bincount(drawn.ravel(), minlength=100)[s]).pvalue > 1e-3


def test_a_whole_number_of_draws_of_each_set_is_exact():
    for step in range(5):
        chosen = draw(1, step, stratified(SETS, 200))
        assert [np.isin(chosen, s).sum() for s in SETS] == [98, 2, 2, 98]


def test_batches_are_shuffled():
    # Unshuffled, the first half would always be of the first set.
    first_half = [(draw(0, step, TABLES["balanced"])[:16] < 20).mean() for step in range(200)]
    assert np.mean(first_half) == pytest.approx(0.5, abs=0.03)
    assert np.std(first_half) > 0.05


def test_positions_may_be_any_numbers():
    assert set(draw(0, 0, uniform(np.array([5, 900, 77]), 64))) == {5, 77, 900}


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, np.nan], [1, np.inf], [[1.0], [2.0]]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="drawing weights"):
        weighted(np.array(weights), 4)


def test_empty_sets_are_refused():
    with pytest.raises(ValueError, match="empty"):
        uniform(np.array([]), 4)
    with pytest.raises(ValueError, match="empty"):
        balanced([np.arange(3), np.array([])], 4)


def test_stratified_draws_hold_each_part_of_the_mass_in_each_batch():
    """Of 64 images with a tenth of the mass in a group, independent draws vary by 2.4 a batch."""
    rng = np.random.default_rng(0)
    group = rng.random(5000) < 0.3
    weights = np.where(group, 0.1 / group.sum(), 0.9 / (~group).sum())
    counts = {}
    for name, order in (("independent", None), ("stratified", group + 0.1 * rng.random(5000))):
        table = weighted(weights, 64, order)
        counts[name] = np.array([group[draw(3, step, table)].sum() for step in range(400)])
        assert counts[name].mean() == pytest.approx(6.4, abs=0.4)
    assert counts["independent"].std() == pytest.approx(np.sqrt(64 * 0.1 * 0.9), rel=0.15)
    assert set(counts["stratified"]) <= {6, 7}
    # The order says only who is drawn together: places in the batch are random as ever.
    first = [group[draw(3, step, table)][0] for step in range(400)]
    assert 0.05 < np.mean(first) < 0.16
