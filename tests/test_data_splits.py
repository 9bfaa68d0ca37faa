import numpy as np
import pytest

from fairjax.data import splits
from fairjax.errors import InputError

# Official CelebA: images per class, classes (Black_Hair, Male) = 00, 01, 10, 11.
OFFICIAL = {
    splits.TRAIN: (75_725, 48_139, 18_784, 20_122),
    splits.VALIDATION: (9_752, 5_971, 1_657, 2_487),
}


def official(part, setting):
    """Labels of the official sizes in an arbitrary fixed order of the file."""
    four = np.repeat(np.arange(4), OFFICIAL[part])
    four = np.random.default_rng(3).permutation(four)
    return four if setting == "multi" else four % 2


def counts(classes, indices, k):
    return tuple(np.bincount(classes[indices], minlength=k).tolist())


@pytest.mark.parametrize(
    ("part", "setting", "biased", "reference"),
    [
        (0, "90_10", (60_756, 6_751), {1.0: 33_753, 0.5: 16_876, 0.25: 8_438, 0.1: 3_375}),
        (0, "80_20", (54_006, 13_501), {1.0: 33_753, 0.5: 16_876, 0.25: 8_438, 0.1: 3_375}),
        (0, "multi", (26_216, 24_878, 3_784, 5_122),
         {1.0: 15_000, 0.5: 7_500, 0.25: 3_750, 0.1: 1_500}),
        (1, "90_10", (7_335, 815), {1.0: 4_074, 0.5: 2_037, 0.25: 1_018, 0.1: 407}),
        (1, "80_20", (6_520, 1_630), {1.0: 4_074, 0.5: 2_037, 0.25: 1_018, 0.1: 407}),
        (1, "multi", (2_298, 2_181, 331, 449), {1.0: 1_315, 0.5: 657, 0.25: 328, 0.1: 131}),
    ],
)  # fmt: skip
def test_paper_counts(part, setting, biased, reference):
    classes = official(part, setting)
    k = len(biased)
    first = splits.paper_split(classes, setting, 1.0, part)
    for perc, each in reference.items():
        b, r = splits.paper_split(classes, setting, perc, part)
        assert counts(classes, b, k) == biased
        assert counts(classes, r, k) == (each,) * k
        np.testing.assert_array_equal(b, first[0])  # perc shrinks the reference set only
        assert not set(b.tolist()) & set(r.tolist())


def test_paper_union_sizes():
    sizes = {
        (s, p): sum(map(len, splits.paper_split(official(0, s), s, p)))
        for s in ("90_10", "80_20", "multi")
        for p in (1.0, 0.5, 0.25, 0.1)
    }
    for setting in ("90_10", "80_20"):
        assert [sizes[setting, p] for p in (1.0, 0.5, 0.25, 0.1)] == [
            135_013, 101_259, 84_383, 74_257,
        ]  # fmt: skip
    assert [sizes["multi", p] for p in (1.0, 0.5, 0.25, 0.1)] == [120_000, 90_000, 75_000, 66_000]


def test_paper_cut_follows_the_order_of_the_file():
    # An independent statement of the rule with Python slices, on the official sizes.
    classes = official(0, "90_10")
    women, men = np.flatnonzero(classes == 0), np.flatnonzero(classes == 1)
    b, r = splits.paper_split(classes, "90_10", 0.25)
    assert set(r) == set(women[:8_438]) | set(men[:8_438])
    assert set(b) == set(women[33_753:]) | set(men[33_753:40_504])
    b, _ = splits.paper_split(classes, "80_20", 0.25)
    assert set(b) == set(women[33_753:-6_750]) | set(men[33_753 : 40_504 + 6_750])


def test_paper_refuses_a_smaller_table():
    with pytest.raises(InputError, match=r"needs \[94509, 40504\].*has \[400, 300\]"):
        splits.paper_split(np.repeat([0, 1], [400, 300]), "90_10", 1.0)
    with pytest.raises(InputError, match="unknown setting"):
        splits.paper_split(np.zeros(3), "70_30", 1.0)
    with pytest.raises(InputError, match="perc"):
        splits.paper_split(np.zeros(3), "90_10", 1.5)


def stock(classes, part=None, seed=0):
    n = len(classes)
    part = np.zeros(n, np.int8) if part is None else part
    return splits.Stock(part, np.random.default_rng(seed).permutation(n))


def test_training_sets_have_the_asked_shares_and_are_disjoint():
    classes = np.repeat([0, 1, -1], [600, 300, 50])
    store = stock(classes)
    b, r = splits.take_training(
        store, classes, ("F", "M"), ((0.9, 0.1), (0.5, 0.5)), (400, 200), [0], "training", "x"
    )
    assert counts(classes, b, 2) == (360, 40)
    assert counts(classes, r, 2) == (100, 100)
    assert not set(b.tolist()) & set(r.tolist())
    assert store.free.sum() == 950 - 600
    again = splits.take_training(
        stock(classes), classes, ("F", "M"), ((0.9, 0.1), (0.5, 0.5)), (400, 200), [0], "x", "x"
    )
    np.testing.assert_array_equal(b, again[0])


def test_the_impossible_is_refused_with_numbers_and_the_mend_works():
    classes = np.repeat([0, 1], [600, 120])
    shares = ((0.9, 0.1), (0.5, 0.5))
    with pytest.raises(InputError, match="needs 460 'F', 140 'M'; there are 600 'F', 120 'M'") as e:
        splits.take_training(
            stock(classes), classes, ("F", "M"), shares, (400, 200), [0], "training", "x"
        )
    most = int(e.value.mend.split("at most ")[1].split(",")[0])
    assert most == 342  # 120 / (.1 + .5 * .5)
    sizes = (most, most // 2)
    b, r = splits.take_training(
        stock(classes), classes, ("F", "M"), shares, sizes, [0], "training", "x"
    )
    assert len(b) + len(r) == most + most // 2


def test_the_rest_is_even_from_its_own_parts_and_says_what_lacks():
    groups = np.tile([0, 1, 1], 200)
    part = np.repeat([0, 1, 2], 200).astype(np.int8)
    store = stock(groups, part)
    store.claim(np.flatnonzero((part == 0) & (groups == 0)))  # group 0 is used up in training
    sizes = splits.Sizes(0, 0, 0, 100, 100, 500)
    roles, notes = splits.take_rest(
        store, groups, (0.5, 0.5), groups, 2, sizes, ([1], [2], [0, 1, 2])
    )
    assert counts(groups, roles["judge_fit"], 2) == (50, 50)
    assert counts(groups, roles["judge_test"], 2) == (50, 50)
    assert set(part[roles["judge_fit"]]) == {1}
    assert set(part[roles["judge_test"]]) == {2}
    metric = roles["metric_reference"]
    left = 133 - 100  # group 0 has 133 in validation and test, of which the judge took 100
    assert counts(groups, metric, 2) == (left, left)
    assert (part[metric][groups[metric] == 1] == 0).all()  # training leftovers come first
    everything = np.concatenate(list(roles.values()))
    assert len(set(everything.tolist())) == len(everything)
    assert notes == [f"metric_reference has {2 * left} images instead of 500: no more are left"]


def test_one_pool_is_shared_between_the_judges_roles():
    classes = np.repeat([0, 1], [1000, 40])
    sizes = splits.Sizes(0, 0, 0, 300, 100, 0)
    roles, notes = splits.take_rest(
        stock(classes), classes, (1.0, 0.0), classes, 2, sizes, ([0], [0], [0])
    )
    assert counts(classes, roles["judge_test"], 2) == (90, 10)
    assert counts(classes, roles["judge_fit"], 2) == (270, 30)
    assert notes == []
