import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairjax.data import proportions
from fairjax.errors import InputError


def test_classes_run_the_last_attribute_fastest():
    values = np.array([[0, 0], [0, 2], [1, 0], [1, 2], [-1, 0], [1, -1]], np.int8)
    np.testing.assert_array_equal(proportions.classes(values, (2, 3)), [0, 2, 3, 5, -1, -1])
    rows = proportions.rows_of_classes(np.arange(6), (2, 3))
    np.testing.assert_array_equal(proportions.classes(rows, (2, 3)), np.arange(6))
    assert proportions.class_names([("a", "b"), ("x", "y")])[1:3] == ("a, y", "b, x")


@given(st.integers(0, 5000), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_exact_counts_are_within_one_of_the_shares(n, parts):
    shares = np.array(parts) / sum(parts)
    counts = proportions.exact_counts(n, shares.tolist())
    assert sum(counts) == n
    assert np.all(np.abs(np.array(counts) - n * shares) < 1)


@given(st.integers(0, 200), st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_even_counts_equal_water_filling(n, available):
    counts = proportions.even_counts(n, available)
    assert sum(counts) == min(n, sum(available))
    open_counts = [c for c, a in zip(counts, available, strict=True) if c < a]
    assert all(c <= a for c, a in zip(counts, available, strict=True))
    if open_counts:  # no class has more than one image more than a class that is not exhausted
        assert max(counts) <= min(open_counts) + 1


def test_group_proportions_follow_bias_and_refuse_wrong_shares():
    biased, reference = proportions.group_proportions(4, 0.7, (), ())
    np.testing.assert_allclose(biased, [0.7, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(reference, [0.25] * 4)
    with pytest.raises(InputError, match="sum to 0.9"):
        proportions.group_proportions(2, 0.9, (0.5, 0.4), ())
    with pytest.raises(InputError, match="makes 2 groups"):
        proportions.group_proportions(2, 0.9, (), (0.5, 0.25, 0.25))
    with pytest.raises(InputError, match=r"data\.bias"):
        proportions.group_proportions(2, 1.5, (), ())


def test_true_ratio_is_the_papers_ideal_weight():
    ratio = proportions.true_ratio(("Male",), ("F", "M"), (60_756, 6_751), (1, 1))["ratio"]
    np.testing.assert_allclose(ratio, [0.556, 5.0], atol=5e-4)  # Choi et al. 90_10
    assert proportions.true_ratio(("x",), ("a", "b"), (1, 0), (1, 1))["ratio"] == [0.5, None]
