"""Formulas over figures: their values, and what is refused without being run."""

import math

import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.report.formula import evaluate, figures_in

FIGURES = {"a/b": 3.0, "c": -2.0, "empty": None, "nan": math.nan, "0": 0.0}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("'a/b'", 3.0),
        (" -'a/b' + 2 * 'c' ** 2 ", 5.0),
        ("('a/b' - 'c') / 4", 1.25),
        ("min('a/b', 'c', 1) + max('a/b', 'c') + abs('c')", 3.0),
        ("2 ** 'a/b' ** 2", 512.0),
    ],
)
def test_values(formula, value):
    assert evaluate(formula, FIGURES) == value


def test_random_sums_of_products_as_numpy_has_them():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, w = rng.normal(size=(2, 4))
        text = " + ".join(f"({w[i]!r}) * 'f{i}'".replace("np.float64", "") for i in range(4))
        found = evaluate(text, {f"f{i}": float(x[i]) for i in range(4)})
        assert found == pytest.approx(float(x @ w), abs=1e-12)


def test_the_figures_that_it_reads_each_once():
    assert figures_in("'c' + min('a/b', 'c') / ('a/b' - 'c')") == ["c", "a/b"]


@pytest.mark.parametrize(
    "formula",
    ["", "'a/b' +", "a/b", "__import__('os').system('true')", "'c'.upper()", "[1]",
     "open('c')", "min()", "abs('c', 'c')", "max('c', key=1)", "'c' < 1", "True + 'c'", "f'{1}'",
     "lambda: 'c'", "(x := 'c')", "1 if 'c' else 2", "1 + 2", "min(*'c')"],
)  # fmt: skip
def test_what_is_no_formula_is_refused(formula):
    for call in (figures_in, lambda text: evaluate(text, FIGURES)):
        with pytest.raises(InputError, match="formula"):
            call(formula)


def test_an_unknown_figure_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"no figure is named 'a/d'.*Did you mean a/b"):
        evaluate("'a/d' + 'c'", FIGURES)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("'empty' + 1", "the figure 'empty' is empty"),
        ("'c' * 'nan'", "the figure 'nan' is empty"),
        ("1 / '0'", "no finite value"),
        ("'c' ** 0.5", "no finite value"),
        ("(1e200 * 'a/b') ** 2", "no finite value"),
        ("9 ** 9 ** 9 ** 'a/b'", "no finite value"),
        ("max('c' ** 0.5, 1)", "no finite value"),
        ("1e999 * 'c'", "no finite value"),
    ],
)
def test_what_has_no_value_says_so(formula, words):
    with pytest.raises(ArithmeticError, match=words):
        evaluate(formula, FIGURES)
