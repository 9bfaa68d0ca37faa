"""Heads on frozen features: what DFR, CRT and SMOTE do on features with a known answer."""

import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.train import heads


def planted(sizes, seed=0):
    """Features [n, 6]: the first says the class weakly, the second the attribute strongly."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(4), sizes)
    y, a = group // 2, group % 2
    x = rng.normal(0, 1, (len(group), 6)) * 3 + 5
    x[:, 0] += 9 * y
    x[:, 1] += 30 * a
    return x, y, group


def worst(head, seed=9):
    x, y, group = planted((300,) * 4, seed)
    right = (x @ head["kernel"] + head["bias"]).argmax(1) == y
    return min(right[group == g].mean() for g in range(4))


def test_dfr_forgets_the_attribute_that_balanced_classes_do_not():
    skewed = planted((600, 6, 6, 600))
    spurious = heads.crt(skewed[0], skewed[1], skewed[1], 2, 0, seed=1)
    by_group = heads.crt(*skewed, 2, 5, seed=1)  # of few, but of as many of each after SMOTE
    assert worst(by_group) > worst(spurious) + 0.05
    held = planted((80, 40, 40, 80), seed=3)
    head, strength = heads.dfr(*held, 2, seed=1)
    assert strength in heads.STRENGTHS
    assert worst(head) > 0.85 > 0.8 > worst(spurious)
    again, _ = heads.dfr(*held, 2, seed=1)
    np.testing.assert_array_equal(head["kernel"], again["kernel"])
    with pytest.raises(InputError, match="DFR needs four"):
        heads.dfr(*planted((9, 3, 9, 9)), 2, seed=1)


@pytest.mark.parametrize("k", [2, 3])
def test_the_l1_penalty_of_dfr_leaves_out_what_says_nothing(k):
    """The l2 penalty of CRT leaves out nothing."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % k
    x = rng.normal(size=(300, 20))
    x[np.arange(300), y] += 2
    sparse, dense = (heads._fitted(x, y, k, 0.03, kind)[0][:, 1] for kind in ("l1", "l2"))
    assert (sparse == 0).sum() >= 15
    assert sparse[1] > 0
    assert (dense != 0).all()


def test_several_classes_have_a_column_each():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 60)
    x = rng.normal(0, 0.3, (180, 4))
    x[np.arange(180), y] += 2
    for head in (heads.dfr(x, y, y, 3, 0)[0], heads.crt(x, y, y, 3, 0, 0)):
        assert head["kernel"].shape == (4, 3)
        assert ((x @ head["kernel"] + head["bias"]).argmax(1) == y).mean() > 0.98


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_a_class_without_examples_has_a_column_and_is_never_decided_for(absent):
    """Of four classes; also one between the others, and in the choice of DFR's strength."""
    rng = np.random.default_rng(0)
    y = np.repeat([k for k in range(4) if k != absent], 60)
    x = rng.normal(0, 0.3, (180, 4))
    x[np.arange(180), y] += 2
    two = y != (absent + 1) % 4  # of two classes that are left the head has one logit
    for rows in (slice(None), two):
        of, classes = x[rows], y[rows]
        for head in (
            heads.dfr(of, classes, classes, 4, 0)[0],
            heads.crt(of, classes, classes, 4, 0, 0),
        ):
            assert head["kernel"].shape == (4, 4)
            assert ((of @ head["kernel"] + head["bias"]).argmax(1) == classes).mean() > 0.98
            far = 100 * np.eye(4)
            assert {*(far @ head["kernel"] + head["bias"]).argmax(1)} <= {*classes}


def test_one_class_alone_is_refused():
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.ones(20, int)
    with pytest.raises(InputError, match="all of one class"):
        heads.crt(x, y, y, 2, 0, seed=1)
    with pytest.raises(InputError, match="all of one class"):
        heads.dfr(x, y, np.arange(20) % 2, 2, seed=1)


def test_smote_fills_groups_up_between_neighbours_of_the_same_group():
    x, _, group = planted((40, 12, 8, 40))
    more, of, made = heads.smoted(x, group, 5, seed=2)
    assert np.bincount(of).tolist() == [40] * 4
    np.testing.assert_array_equal(more[~made], x)
    for g in (1, 2):
        own = x[group == g]
        for point in more[made & (of == g)]:  # on a segment between two of its group
            offsets = own - point
            lengths = np.linalg.norm(offsets, axis=1)
            cosines = offsets @ offsets.T / np.outer(lengths, lengths)
            assert cosines.min() == pytest.approx(-1, abs=1e-6)
    head = heads.crt(x, (group == 2).astype(int), (group == 2).astype(int), 2, 3, seed=1)
    assert head["kernel"].shape == (6, 2)
    with pytest.raises(InputError, match="Take at most 7 neighbours"):
        heads.smoted(x, group, 8, seed=0)


@pytest.mark.parametrize("kind", ["borderline", "svm", "adasyn"])
def test_variants_of_smote_make_more_where_groups_meet(kind):
    """The small group reaches from the large one, on the left, to where nobody else is."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], [200, 40])
    x = np.stack([np.where(group, rng.uniform(0, 10, 240), rng.normal(0, 1, 240)),
                  rng.normal(0, 0.3, 240)], 1)  # fmt: skip
    plain, of_plain, made_plain = heads.smoted(x, group, 5, seed=2)
    more, of, made = heads.smoted(x, group, 5, seed=2, kind=kind)
    assert (of[made] == 1).all()
    assert abs(made.sum() - 160) <= 16
    assert (of_plain[made_plain] == 1).all()
    assert np.median(more[made, 0]) < np.median(plain[made_plain, 0]) - 1
    apart = np.where(group[:, None] == 1, 1000.0, 0.0) + x
    if kind == "adasyn":
        with pytest.raises(InputError, match="makes no examples"):
            heads.smoted(apart, group, 5, seed=2, kind=kind)
