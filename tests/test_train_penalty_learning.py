"""Whether penalties do what they are for, on a generator of two modes whose shares can move."""

from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from toy_modes import fakes, toy_judge, toy_modes, trained

EVEN = (0.5, 0.5)
STEPS = 700


@cache
def plain(bright):
    programs = toy_modes()
    return fakes(programs, trained(programs, bright, STEPS)[0].g)


@pytest.mark.slow
def test_without_a_penalty_the_share_stays_at_that_of_the_data():
    assert plain(0.9)[0].mean() == pytest.approx(0.9, abs=0.07)


def test_marginals_move_the_share_to_the_target():
    programs = toy_modes(penalty="marginals", penalty_weight=20.0)
    state, rows = trained(programs, 0.9, STEPS, toy_judge(EVEN))
    assert fakes(programs, state.g)[0].mean() == pytest.approx(0.5, abs=0.08)
    last = [row["penalty/distance"] for row in rows[-100:]]
    assert np.mean(last) < 0.1 * rows[0]["penalty/distance"]


@pytest.mark.slow
def test_running_shares_steer_where_a_batch_says_little():
    """Four fakes a step."""
    programs = toy_modes(penalty="marginals", penalty_weight=20.0, penalty_momentum=0.95, batch=4)
    state, rows = trained(programs, 0.9, STEPS, toy_judge(EVEN))
    assert fakes(programs, state.g)[0].mean() == pytest.approx(0.5, abs=0.08)
    running = np.array([row["penalty/running/1"] for row in rows[-200:]])
    batches = np.array([row["penalty/share/1"] for row in rows[-200:]])
    assert running.std() < 0.5 * batches.std()


@pytest.mark.slow
def test_the_constraint_is_kept_by_a_multiplier_that_settles():
    slack = 0.05  # of two classes: shares of 0.66 and 0.34
    programs = toy_modes(penalty="constraint", penalty_slack=slack, penalty_rate=1.0)
    state, rows = trained(programs, 0.9, STEPS, toy_judge(EVEN))
    mu, distance = (np.array([row[f"penalty/{name}"] for row in rows])
                    for name in ("mu", "distance"))  # fmt: skip
    assert distance[:20].mean() > 3 * slack  # violated at the start
    assert distance[-300:].mean() < 1.3 * slack
    assert 0 < mu[-300:].mean() < 20
    share = fakes(programs, state.g)[0].mean()
    assert 0.5 < share < 0.78
    assert state.penalty.mu == mu[-1]


def probed(bright, w):
    """Accuracy of a freshly fitted linear probe of the class from w, on styles it did not see."""
    half = len(w) // 2
    return LogisticRegression().fit(w[:half], bright[:half]).score(w[half:], bright[half:])


@pytest.mark.slow
def test_the_adversary_takes_the_attribute_out_of_the_style():
    before = probed(*plain(0.5))
    programs = toy_modes(penalty="adversary", penalty_weight=0.1, adversary_learning_rate=0.01)
    state, rows = trained(programs, 0.5, STEPS, toy_judge(EVEN))
    bright, w = fakes(programs, state.g)
    after = probed(bright, w)
    assert before > 0.85
    assert after < 0.65
    assert 0.3 < bright.mean() < 0.7  # both classes are still made
    last = rows[-100:]
    chance, loss = (np.mean([row[f"adversary/{name}"] for row in last])
                    for name in ("chance", "loss"))  # fmt: skip
    assert loss > 0.95 * chance
