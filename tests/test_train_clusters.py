"""Clusters of features where the groups are known."""

import numpy as np
import pytest

from fairjax.train.clusters import clusters


@pytest.mark.parametrize("sizes", [(300, 200, 100), (600, 40, 80)])
def test_planted_groups_are_found_largest_first(sizes):
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat([0, 1, 2], sizes))
    centres = 8 * np.eye(3, 50)
    x = (centres[group] + rng.normal(size=(len(group), 50))).astype(np.float32)
    found = clusters(x, 3, seed=2**62)
    table = np.zeros((3, 3), int)
    np.add.at(table, (group, found), 1)
    assert (table > 0).sum() == 3  # one cluster for each group
    assert np.bincount(found).tolist() == sorted(sizes, reverse=True)
    np.testing.assert_array_equal(found, clusters(x, 3, seed=2**62))


def test_few_rows_and_narrow_features():
    found = clusters(np.array([[0.0], [0.1], [9.0]]), 2, seed=0)
    assert found.tolist() == [0, 0, 1]
