"""Figures that fairlearn, AIF360 and Aequitas define as well, on 100 random tables: to 1e-12."""

import logging

import numpy as np
import pandas as pd
import pytest

from fairjax.evaluate.fairness import fairness_figures, judge_errors

logging.disable(logging.WARNING)  # what AIF360 says of optional parts while it is imported
from aequitas.group import Group  # noqa: E402
from aif360.datasets import BinaryLabelDataset  # noqa: E402
from aif360.metrics import BinaryLabelDatasetMetric  # noqa: E402
from fairlearn.metrics import (  # noqa: E402
    MetricFrame,
    selection_rate,
    true_negative_rate,
    true_positive_rate,
)

logging.disable(logging.NOTSET)


def random_table(number):
    """Decisions on samples, on reference images and on test images of two classes."""
    rng = np.random.default_rng(number)
    share, target = rng.uniform(0.02, 0.98, 2)
    samples = rng.random(int(rng.integers(120, 300))) < share
    reference = rng.random(int(rng.integers(120, 300))) < target
    truth = np.repeat((False, True), 60)
    judged = truth ^ (rng.random(120) < rng.uniform(0.02, 0.2))
    return samples, reference, truth, judged


def ours(samples, reference, truth, judged):
    one_hot = np.eye(2)
    errors = judge_errors(one_hot[judged.astype(int)], truth.astype(int))
    figures = fairness_figures(
        one_hot[samples.astype(int)], errors, one_hot[reference.astype(int)],
        np.full(len(reference), -1), "a", draws=10,
    )  # fmt: skip
    return {figure.name: figure.value for figure in figures}, errors


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 50])
def test_shares_distances_and_the_judges_errors_are_those_of_the_peers(start):
    for number in range(start, start + 50):
        samples, reference, truth, judged = random_table(number)
        found, errors = ours(samples, reference, truth, judged)
        share = {k: found[f"share/a/{k}/hard/raw"] for k in (0, 1)}
        target = found["reference_share/a/1/hard/raw"]
        far = found["fairness_discrepancy/a/hard/raw/reference"]

        # fairlearn: the sets are the groups, the judged class is the decision.
        decided = np.concatenate([samples, reference]).astype(int)
        which = np.repeat(("samples", "reference"), (len(samples), len(reference)))
        frame = MetricFrame(metrics=selection_rate, y_true=decided, y_pred=decided,
                            sensitive_features=which)  # fmt: skip
        assert share[1] == pytest.approx(frame.by_group["samples"], abs=1e-12)
        assert target == pytest.approx(frame.by_group["reference"], abs=1e-12)
        assert far == pytest.approx(np.sqrt(2) * frame.difference(), abs=1e-12)
        others = selection_rate(samples, samples, pos_label=False)
        assert share[0] == pytest.approx(others, abs=1e-12)
        assert found["smallest_share/a/hard/raw"] == pytest.approx(min(share.values()), abs=1e-12)
        rates = errors.counts / errors.counts.sum(1, keepdims=True)
        assert rates[1, 1] == pytest.approx(true_positive_rate(truth, judged), abs=1e-12)
        assert rates[0, 0] == pytest.approx(true_negative_rate(truth, judged), abs=1e-12)

        # AIF360: the share is the base rate, the difference of the sets the statistical parity.
        table = pd.DataFrame({"decided": decided.astype(float),
                              "set": (which == "reference").astype(float)})  # fmt: skip
        metric = BinaryLabelDatasetMetric(
            BinaryLabelDataset(df=table, label_names=["decided"],
                               protected_attribute_names=["set"]),
            unprivileged_groups=[{"set": 0.0}], privileged_groups=[{"set": 1.0}],
        )  # fmt: skip
        assert share[1] == pytest.approx(metric.base_rate(privileged=False), abs=1e-12)
        assert share[1] - target == pytest.approx(metric.mean_difference(), abs=1e-12)

        # Aequitas: prevalence in each set, and the judge's rates on its test images.
        crossed = Group().get_crosstabs(
            pd.DataFrame({"score": decided, "label_value": decided, "set": which})
        )[0].set_index("attribute_value")  # fmt: skip
        assert share[1] == pytest.approx(crossed.loc["samples", "prev"], abs=1e-12)
        on_test = {"score": judged.astype(int), "label_value": truth.astype(int), "set": "test"}
        tested = Group().get_crosstabs(pd.DataFrame(on_test))[0]
        assert rates[1, 0] == pytest.approx(tested["fnr"][0], abs=1e-12)
        assert rates[0, 1] == pytest.approx(tested["fpr"][0], abs=1e-12)
