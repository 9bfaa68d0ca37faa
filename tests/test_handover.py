"""`fairjax.predictions`: one line into fairlearn, AIF360 and Aequitas, which find our figures."""

import logging

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_audit_predictions import run, table

import fairjax
from fairjax.errors import InputError

logging.disable(logging.WARNING)  # what AIF360 says of optional parts while it is imported
from aequitas.group import Group  # noqa: E402
from aif360.metrics import ClassificationMetric  # noqa: E402
from fairlearn.metrics import MetricFrame, true_positive_rate  # noqa: E402

logging.disable(logging.NOTSET)


def test_three_libraries_find_the_figures_of_the_audit(tmp_path):
    path = table(tmp_path / "predictions.csv")
    np.savez(tmp_path / "features.npz", features=np.arange(2400.0).reshape(1200, 2))
    _, figures, _ = run(tmp_path, "--privileged=sex=male", "--attributes=sex,sex+age",
                        predictions=path)  # fmt: skip
    value = lambda name: pytest.approx(figures[name]["value"], abs=1e-12)
    handed = fairjax.predictions(str(path), label="y", score="p",
                                 features=str(tmp_path / "features.npz"))  # fmt: skip
    frame = MetricFrame(metrics=true_positive_rate, **handed.fairlearn("sex", "age")).by_group
    assert frame["male", "old"] == value("true_positive_rate/sex+age/male, old")  # 30 have no age
    one = MetricFrame(metrics=true_positive_rate, **handed.fairlearn("sex+age")).by_group
    assert one["female, young"] == value("true_positive_rate/sex+age/female, young")
    areas = MetricFrame(metrics=roc_auc_score, **handed.fairlearn("sex", scores=True)).by_group
    assert areas["female"] == value("roc_auc/sex/female")
    metric = ClassificationMetric(**handed.aif360("sex", "male"))
    assert metric.statistical_parity_difference() == value(
        "statistical_parity_difference/sex/female"
    )
    assert metric.disparate_impact() == value("disparate_impact/sex/female")
    assert metric.equalized_odds_difference() == value("equalized_odds_difference/sex")
    assert metric.accuracy(privileged=False) == value("accuracy/sex/female")
    assert metric.classified_dataset.scores[:, 0] == pytest.approx(handed.scores)
    of = lambda name: Group().get_crosstabs(handed.aequitas(name))[0].set_index("attribute_value")
    assert of("sex").loc["female", "pprev"] == value("selection_rate/sex/female")
    both = "false_positive_rate/sex+age/male, old"
    assert of("sex+age").loc["male, old", "fpr"] == value(both)
    whole = handed.frame()
    assert len(whole) == 1200
    assert whole["feature 1"].tolist() == handed.features[:, 1].tolist()
    assert (whole["truth"] == whole["decided"]).mean() == value("accuracy/all/all")
    assert handed.groups("age").tolist() == whole["age"].tolist()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda path: fairjax.predictions(path, label="z", score="p"), "no column 'z'"),
        (lambda path: fairjax.predictions(path, label="y", score="p", features=path),
         "no array `features`"),
        (lambda path: fairjax.predictions(path, label="y", score="p").fairlearn(), "Name columns"),
        (lambda path: fairjax.predictions(path, label="y", score="p").aif360("sex", "it"),
         "no group 'it'"),
        (lambda path: fairjax.predictions(path, label="y", decision="d").fairlearn(
            "sex", scores=True), "a table without scores"),
        (lambda path: fairjax.predictions(str(path.parent), label="y"), "no arm of a run"),
    ],
)  # fmt: skip
def test_what_cannot_be_handed_over_is_refused(tmp_path, ask, words):
    path = table(tmp_path / "predictions.csv", decide=lambda truth: truth.astype(int))
    with pytest.raises(InputError, match=words):
        ask(path)
