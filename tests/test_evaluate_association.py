"""Association of two labels against SciPy, the correlation coefficient and independent draws."""

import math

import numpy as np
import pytest
from scipy.stats import contingency

from fairjax.evaluate.association import association


def test_cramers_v_is_that_of_scipy_and_phi_the_correlation():
    rng = np.random.default_rng(0)
    for shape in ((2, 2), (2, 3), (4, 3)):
        table = rng.integers(1, 60, shape)
        found = association(table)
        assert found.cramers_v == pytest.approx(contingency.association(table, method="cramer"))
        if shape == (2, 2):
            rows = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], table.ravel(), axis=0)
            assert found.phi == pytest.approx(np.corrcoef(rows.T)[0, 1])
        else:
            assert math.isnan(found.phi)
        more = np.zeros((shape[0] + 1, shape[1] + 1), int)  # values that do not occur
        more[: shape[0], : shape[1]] = table
        assert association(more)[:2] == found[:2]
    assert association(np.array([[5, 0], [0, 7]])).phi == pytest.approx(1)
    assert association(np.array([[0, 5], [7, 0]])).phi == pytest.approx(-1)
    assert association(np.array([[5, 0], [7, 0]])) is None
    assert association(np.zeros((2, 2), int)) is None


def test_the_corrected_value_has_no_bias_where_the_labels_are_independent():
    """By hand for one table; then means over draws, where V itself is far from 0."""
    found = association(np.array([[30, 10], [10, 30]]))
    square = 0.25  # phi = (30 * 30 - 10 * 10) / 40^2
    rows = 2 - 1 / 79
    expected = math.sqrt((square - 1 / 79) / (rows - 1))
    assert (found.cramers_v, found.corrected) == pytest.approx((0.5, expected))
    rng = np.random.default_rng(1)
    draws = [association(rng.multinomial(60, np.full(20, 0.05)).reshape(4, 5)) for _ in range(300)]
    plain = np.mean([d.cramers_v**2 for d in draws])
    corrected = np.mean([d.corrected**2 for d in draws])
    assert plain > 0.055
    assert corrected < plain / 4
