"""fairlearn's repairs: what they make alike, whom they leave alone, and that a seed keeps them."""

import numpy as np
import pytest
from test_repair import rows, spread

from fairjax.evaluate import randomised


@pytest.mark.parametrize("kind", ["parity", "odds"])
def test_thresholds_by_lot_meet_their_constraint_and_are_kept_by_a_seed(kind):
    truth, scores, of = rows(0, 3000)
    given = scores >= 0.5
    asked = np.where(np.arange(len(of)) < 50, -1, of)
    found, again = (randomised.optimal_thresholds(truth, scores, of, kind, scores, asked, given, 0)
                    for _ in range(2))  # fmt: skip
    np.testing.assert_array_equal(found.decided, again.decided)
    np.testing.assert_array_equal(found.decided[:50], given[:50])  # without a group
    other = randomised.optimal_thresholds(truth, scores, of, kind, scores, asked, given, 1)
    assert found.otherwise == (found.decided != other.decided).mean() > 0
    assert spread(truth, given, of, kind) > 0.15
    assert spread(truth, found.decided, of, kind) < 0.05


def test_reductions_meet_theirs_where_features_tell_groups_apart():
    rng = np.random.default_rng(0)
    n = 1000
    of, truth = rng.integers(0, 2, n), rng.random(n) < 0.4
    plain = rng.normal(2 * truth - 1 - 1.2 * of, 1.0)
    features = np.c_[plain, of + rng.normal(0, 0.1, n), np.ones(n)]  # one of them is constant
    fit, held = np.arange(n) < 500, np.arange(n) >= 500
    known = np.where(np.arange(n) < 20, -1, of)  # these are learnt nothing from
    found = randomised.reduced(truth[fit], features[fit], known[fit], "parity", 0.02,
                               features[held], 0)  # fmt: skip
    given = plain[held] > 0
    assert spread(truth[held], given, of[held], "parity") > 0.2
    assert spread(truth[held], found.decided, of[held], "parity") < 0.1
    assert (found.decided == truth[held]).mean() > (given == truth[held]).mean()
    poisoned = truth.copy()
    poisoned[:20] = ~poisoned[:20]
    same = randomised.reduced(poisoned[fit], features[fit], known[fit], "parity", 0.02,
                              features[held], 0)  # fmt: skip
    np.testing.assert_array_equal(found.decided, same.decided)
