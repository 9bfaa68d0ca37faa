import math

import numpy as np
import oracles_evaluate as oracle
import pytest
from interval_coverage import Cell, coverage, fails

from fairjax.evaluate.fairness import (
    KINDS,
    JudgeErrors,
    _drawn,
    correct,
    disagreement_figure,
    discrepancy,
    fairness_figures,
    judge_errors,
    project_to_simplex,
    proportions,
    weakness,
)

PERFECT = JudgeErrors(np.eye(2, dtype=int) * 1000, np.eye(2))
PERFECT_3 = JudgeErrors(np.eye(3, dtype=int) * 10_000, np.eye(3))


def one_hot(counts):
    return np.repeat(np.eye(len(counts)), counts, axis=0)


def figures(probabilities, errors, reference, classes=None, **options):
    found = fairness_figures(probabilities, errors, reference, classes, "hair", **options)
    return {figure.name: figure for figure in found}


@pytest.mark.parametrize("k", [2, 3, 5])
def test_correction_is_the_inverse_of_the_confusion(k):
    rng = np.random.default_rng(k)
    for _ in range(20):
        truth = rng.dirichlet(np.ones(k))
        confusion = 0.7 * np.eye(k) + 0.3 * rng.dirichlet(np.ones(k), size=k)
        corrected, unclipped, outside = correct(truth @ confusion, confusion)
        np.testing.assert_allclose(corrected, truth, atol=1e-12)
        np.testing.assert_allclose(unclipped, truth, atol=1e-12)
        assert not outside


def test_two_classes_agree_with_cleam():
    confusion = np.array([[0.947, 0.053], [0.017, 0.983]])
    expected = oracle.cleam_two_classes(0.61, 0.947, 0.983)
    assert correct(np.array([0.61, 0.39]), confusion)[0][0] == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.638, abs=5e-4)  # published for StyleGAN2, Gender


def test_projection_is_the_nearest_point_of_the_simplex():
    rng = np.random.default_rng(0)
    for _ in range(50):
        point = rng.normal(0.3, 0.6, size=4)
        np.testing.assert_allclose(
            project_to_simplex(point), oracle.nearest_on_simplex(point), atol=1e-9
        )
    there = np.array([[0.5, 1 / 6, 1 / 3, 0], [0.1, 0.2, 0.3, 0.4]])
    assert np.array_equal(project_to_simplex(there), there)
    corrected, unclipped, outside = correct(
        np.array([0.99, 0.01]), np.array([[0.9, 0.1], [0.1, 0.9]])
    )
    assert outside
    assert unclipped[0] > 1
    np.testing.assert_allclose(corrected, [1, 0])


@pytest.mark.parametrize(
    ("biased", "reference", "expected"),
    [
        ((60756, 6751), (33753, 33753), 0.283),  # 90_10, perc 1, .5, .25, .1
        ((60756, 6751), (16876, 16876), 0.377),
        ((60756, 6751), (8438, 8438), 0.453),
        ((60756, 6751), (3375, 3375), 0.514),
        ((54006, 13501), (16876, 16876), 0.283),  # 80_20, perc .5
        ((26216, 24878, 3784, 5122), (15000,) * 4, 0.176),  # multi, perc 1
        ((26216, 24878, 3784, 5122), (1500,) * 4, 0.320),
    ],
)
def test_union_of_the_papers_splits(biased, reference, expected):
    union = np.add(biased, reference)
    k = len(biased)
    perfect = JudgeErrors(np.eye(k, dtype=int) * 1000, np.eye(k))
    found = figures(one_hot(union), perfect, one_hot([10] * k), draws=3)
    for form in ("hard/raw", "soft/raw", "hard/corrected", "soft/corrected"):
        for against in ("reference", "uniform"):
            figure = found[f"fairness_discrepancy/hair/{form}/{against}"]
            assert figure.value == pytest.approx(expected, abs=7e-4)
            assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize(("k", "expected"), [(2, math.sqrt(0.5)), (4, math.sqrt(0.75))])
def test_a_class_that_never_appears_is_counted(k, expected):
    perfect = JudgeErrors(np.eye(k, dtype=int) * 1000, np.eye(k))
    found = figures(one_hot([200] + [0] * (k - 1)), perfect, one_hot([10] * k), draws=50)
    assert found["fairness_discrepancy/hair/hard/raw/uniform"].value == pytest.approx(expected)
    absent = found[f"share/hair/{k - 1}/hard/raw"]
    assert absent.value == absent.low == 0
    assert 0 < absent.high < 0.05  # 200 images do not prove that the class cannot appear


@pytest.mark.parametrize(("k", "mean", "top"), [(2, 0.0056, 0.0139), (4, 0.0080, 0.0140)])
def test_floor_of_the_discrepancy_at_ten_thousand_samples(k, mean, top):
    rng = np.random.default_rng(0)
    uniform = np.full(k, 1 / k)
    floor = [discrepancy(rng.multinomial(10_000, uniform) / 1e4, uniform) for _ in range(4000)]
    assert np.mean(floor) == pytest.approx(mean, rel=0.03)
    assert np.quantile(floor, 0.95) == pytest.approx(top, rel=0.04)


def test_hard_counts_decisions_and_soft_averages():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    np.testing.assert_allclose(proportions(probabilities, "hard"), [2 / 3, 1 / 3])
    np.testing.assert_allclose(proportions(probabilities, "soft"), [1.7 / 3, 1.3 / 3])
    with pytest.raises(ValueError, match="hard"):
        proportions(probabilities, "medium")


def simulated(rng, share, n, recalls, tested):
    """One experiment: samples, judge errors and reference of a judge with known recalls."""
    confusion = np.array([[recalls[0], 1 - recalls[0]], [1 - recalls[1], recalls[1]]])
    # Of the judge's two possible outputs, .8/.2 and .2/.8, the soft mean follows by linearity.
    outputs = np.array([[0.8, 0.2], [0.2, 0.8]])
    counts = np.stack([rng.multinomial(tested, row) for row in confusion])
    truth = (rng.random(n) >= share).astype(int)
    decided = (rng.random(n) >= confusion[truth, 0]).astype(int)
    return outputs[decided], JudgeErrors(counts, counts / tested @ outputs)


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_intervals_cover_the_truth(share):
    rng = np.random.default_rng(1)
    rounds, names = 300, ("share/hair/0/hard/corrected", "share/hair/0/soft/corrected")
    hits = dict.fromkeys([*names, "discrepancy"], 0)
    reference = one_hot([100, 100])
    truth = discrepancy([share, 1 - share], [0.5, 0.5])
    for _ in range(rounds):
        probabilities, errors = simulated(rng, share, 300, (0.9, 0.95), 150)
        found = figures(probabilities, errors, reference, np.arange(200) % 2, draws=300)
        for name in names:
            hits[name] += found[name].low <= share <= found[name].high
        figure = found["fairness_discrepancy/hair/hard/corrected/reference"]
        hits["discrepancy"] += figure.low <= truth <= figure.high
    # 95 % of 300 has standard deviation 3.8; soft confusion rows are drawn too wide on purpose.
    assert hits[names[0]] >= 273
    assert hits[names[0]] <= 297
    assert hits[names[1]] >= 273
    assert hits["discrepancy"] >= 273


@pytest.mark.parametrize(
    "cell",
    [
        Cell((0.2, 0.8), 0.85, 200, 10_000),
        Cell((0.0, 1.0), 0.99, 1000, 1000),
        Cell((0.1, 0.2, 0.3, 0.4), 0.7, 1000, 1000),
        Cell((0.05, 0.95), 0.85, 200, 1000, soft=True),
        Cell((0.25,) * 4, 0.7, 1000, 1000, soft=True),
    ],
)
def test_coverage_of_the_intervals(cell):
    """A few cells of `tests/interval_coverage.py`, three standard errors wider."""
    found = coverage(cell, 300, draws=500)
    assert fails(cell, found, noise=3 * 0.0126) == []
    assert found.refused == 0
    if cell.shares == (0.2, 0.8):
        assert found.of_published < 0.6  # it takes the judge's errors for known


def test_coverage_counts_refusals_apart():
    assert coverage(Cell((0.5, 0.5), 0.52, 200, 1000), 20, draws=50).refused > 0.2


@pytest.mark.parametrize("k", [2, 4])
def test_draws_of_averaged_one_hot_vectors_have_the_moments_of_counted_ones(k):
    """One-hot probabilities are decisions: both kinds must then be equally certain."""
    votes = one_hot(np.arange(1, k + 1) * 20)
    hard, soft = (_drawn(votes, kind, np.random.default_rng(0), 100_000)[1] for kind in KINDS)
    np.testing.assert_allclose(hard.mean(0), soft.mean(0), atol=1e-3)
    np.testing.assert_allclose(np.cov(hard.T), np.cov(soft.T), atol=3e-5)


def test_errors_of_a_judge_from_its_probabilities():
    rng = np.random.default_rng(0)
    probabilities, classes = rng.dirichlet([2, 1, 1], size=200), rng.integers(0, 2, 200)
    errors = judge_errors(probabilities, classes)
    for i in range(2):
        rows = probabilities[classes == i]
        assert errors.counts[i].tolist() == [(rows.argmax(1) == j).sum() for j in range(3)]
        np.testing.assert_allclose(errors.soft[i], rows.mean(0))
        centred = rows - rows.mean(0)
        np.testing.assert_allclose(errors.soft_covariance[i], centred.T @ centred / len(rows))
    assert errors.counts[2].sum() == 0  # no image of it, which `fairness_figures` refuses
    refused = figures(probabilities, errors, probabilities)["smallest_share/hair/soft/corrected"]
    assert "no test image" in refused.note


def test_divergence_and_smallest_share_with_their_intervals():
    found = figures(one_hot([5000, 3000, 2000]), PERFECT_3, one_hot([50, 30, 20]))
    for form in ("raw", "corrected"):
        uniform = found[f"kl/hair/hard/{form}/uniform"]
        expected = sum(p * math.log(3 * p) for p in (0.5, 0.3, 0.2))
        assert uniform.value == pytest.approx(expected)
        assert 0 < uniform.low < expected < uniform.high
        smallest = found[f"smallest_share/hair/hard/{form}"]
        assert (smallest.value, smallest.note) == (pytest.approx(0.2), "of class 2")
        assert smallest.low < 0.2 < smallest.high
    same = found["kl/hair/hard/corrected/reference"]
    assert same.value == pytest.approx(0, abs=1e-12)
    assert same.low == 0  # nothing differs: the draws, all above 0, must not say otherwise
    absent = figures(one_hot([50, 50, 0]), PERFECT_3, one_hot([100, 0, 0]), np.zeros(100, int))
    assert math.isinf(absent["kl/hair/hard/corrected/reference"].value)


def test_correction_moves_the_share_towards_the_truth_and_widens_the_interval():
    probabilities, errors = simulated(np.random.default_rng(3), 0.85, 20_000, (0.9, 0.95), 400)
    found = figures(probabilities, errors, one_hot([100, 100]), None)
    raw, corrected = (found[f"share/hair/0/hard/{form}"] for form in ("raw", "corrected"))
    assert raw.value == pytest.approx(0.85 * 0.9 + 0.15 * 0.05, abs=0.01)
    assert corrected.value == pytest.approx(0.85, abs=0.03)
    assert corrected.high - corrected.low > 2 * (raw.high - raw.low)
    assert found["outside_simplex/hair/hard"].value == 0
    assert found["outside_simplex/hair/hard"].note.startswith("unclipped 0.8")


def test_the_corrected_target_is_the_true_labels_where_they_are_known():
    reference = one_hot([70, 30])  # as judged
    with_labels = figures(one_hot([60, 40]), PERFECT, reference, np.array([0, 1] * 50 + [-1]))
    without = figures(one_hot([60, 40]), PERFECT, reference, None)
    name = "fairness_discrepancy/hair/hard/{}/reference"
    assert with_labels[name.format("corrected")].value == pytest.approx(math.sqrt(2) * 0.1)
    assert with_labels[name.format("raw")].value == pytest.approx(math.sqrt(2) * 0.1)
    assert without[name.format("corrected")].value == pytest.approx(math.sqrt(2) * 0.1)
    assert with_labels["reference_share/hair/0/hard/corrected"].value == pytest.approx(0.5)
    assert without["reference_share/hair/0/hard/corrected"].value == pytest.approx(0.7)
    # An unlabelled reference is itself a sample, so its figures are less certain.
    assert without[name.format("raw")].high > with_labels[name.format("raw")].high


def test_outside_the_simplex_is_flagged():
    errors = JudgeErrors(np.array([[80, 20], [20, 80]]), np.array([[0.8, 0.2], [0.2, 0.8]]))
    found = figures(one_hot([95, 5]), errors, one_hot([50, 50]))
    assert found["outside_simplex/hair/hard"].value == 1
    assert found["outside_simplex/hair/hard"].note == "unclipped 1.2500, -0.2500"
    assert found["share/hair/0/hard/corrected"].value == 1
    assert found["share/hair/0/hard/corrected"].note == "left the simplex before projection"


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([[60, 40], [50, 50]], "finds 0.50 of a class"),
        ([[99, 1], [0, 0]], "no test image"),
    ],
)
def test_a_weak_judge_is_refused(counts, reason):
    counts = np.array(counts)
    errors = JudgeErrors(counts, counts / np.maximum(counts.sum(1, keepdims=True), 1))
    found = figures(one_hot([60, 40]), errors, one_hot([50, 50]), draws=10)
    figure = found["fairness_discrepancy/hair/hard/corrected/reference"]
    assert math.isnan(figure.value)
    assert figure.note.startswith("judge too weak")
    assert reason in figure.note
    assert found["share/hair/0/hard/raw"].value == pytest.approx(0.6)


def test_a_badly_conditioned_judge_is_refused():
    near = np.array([[0.36, 0.33, 0.31], [0.32, 0.35, 0.33], [0.31, 0.33, 0.36]])
    assert "condition number" in weakness(near)
    assert weakness(np.eye(3)) == ""


def test_seeds_reproduce_and_bad_shapes_are_refused():
    arguments = (one_hot([60, 40]), PERFECT, one_hot([50, 50]))
    assert figures(*arguments, seed=3) == figures(*arguments, seed=3)
    assert figures(*arguments, seed=3) != figures(*arguments, seed=4)
    with pytest.raises(ValueError, match="at least one"):
        figures(one_hot([0, 0]), PERFECT, one_hot([1, 1]))
    with pytest.raises(ValueError, match="2 classes"):
        figures(one_hot([1, 1]), PERFECT, one_hot([1, 1, 1]))


def test_what_networks_read_differently_is_in_the_intervals():
    """Networks that are right on real images move the samples' shares, each in its way, around the
    truth: the intervals of their mean hold it, and those without the votes do not."""
    rng = np.random.default_rng(0)
    n, members, truth, held, blind = 1000, 5, 0.4, 0, 0
    right = JudgeErrors(np.diag([500, 500]), np.eye(2))
    for _ in range(300):
        shares = truth + rng.normal(0, 0.06, members)
        member_votes = rng.random((n, 1)) < shares  # each draws the same images
        votes = np.stack([~member_votes, member_votes], -1).astype(float)
        mean = votes.mean(1)
        with_votes, without = (
            {f.name: f for f in fairness_figures(said, right, np.eye(2), None, "hair", draws=200,
                                                 kinds=("soft",))}
            for said in (votes, mean)
        )  # fmt: skip
        for form in ("raw", "corrected"):
            figure = with_votes[f"share/hair/1/soft/{form}"]
            held += figure.low <= truth <= figure.high
        figure = without["share/hair/1/soft/corrected"]
        blind += figure.low <= truth <= figure.high
        assert with_votes[figure.name].value == figure.value
    assert 0.93 <= held / 600 <= 0.99
    assert blind / 300 < 0.8


def test_networks_that_agree_change_no_interval():
    p = np.random.default_rng(1).dirichlet([1, 1, 1], 50)
    errors = JudgeErrors(np.diag([50, 50, 50]), np.eye(3))
    alone, agreed = (
        [f for f in fairness_figures(said, errors, p, None, "x", draws=50, kinds=("hard",))]
        for said in (p, np.repeat(p[:, None], 3, 1))
    )
    for one, other in zip(alone, agreed, strict=True):
        np.testing.assert_allclose(other[1:4], one[1:4], atol=1e-12)


def test_networks_that_differ_on_samples_are_counted_in_pairs():
    votes = np.eye(2)[[[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1]]]  # 3 networks, 4 samples
    figure = disagreement_figure(votes, "hair", 0.004)
    assert figure.value == pytest.approx((2 / 3 + 2 / 3) / 4)
    assert (figure.n, figure.note) == (4, "on real images 0.4 %")
    assert disagreement_figure(votes, "hair", math.nan).note == "on real images unknown"
    none = disagreement_figure(votes[[0, 2]], "hair", 0.0)
    assert none[1:3] == (0, 0)
    assert none.high == pytest.approx(1.96**2 / (2 + 1.96**2))  # Wilson's, of 0 of 2
