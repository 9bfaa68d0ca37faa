"""Linear heads on frozen features: what is trained again after the network (scikit-learn)."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fairjax.errors import InputError

# Inverse strengths of the l1 penalty that are tried, as in the published code of DFR.
STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
REFITS = 20
NEVER = -1e4  # bias of a class without examples: far below what other classes' outputs come to


def balanced_subset(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions of as many examples of each group as the smallest one has."""
    sizes = np.bincount(groups)
    sets = [np.flatnonzero(groups == g) for g in np.flatnonzero(sizes)]
    least = min(len(s) for s in sets)
    return np.concatenate([rng.choice(s, least, replace=False) for s in sets])


def dfr(
    features: np.ndarray, target: np.ndarray, groups: np.ndarray, classes: int, seed: int
) -> tuple[dict[str, np.ndarray], float]:
    """Deep feature re-weighting (Kirichenko et al., 2023): a head for balanced held-out examples.

    The strength of an l1 penalty is chosen by worst-group accuracy on half of the examples, with
    the features standardised; then 20 heads are fitted, each on a balanced subset of all examples,
    and averaged.

    Args:
      features: float [n, d]. target: int [n] in [0, classes); one that is not there is never
        decided for. groups: int [n] >= 0. classes: c. seed: of the draws.

    Returns:
      ({"kernel" [d, c], "bias" [c]} for the features as they are, the chosen strength).

    Raises:
      InputError: a group has fewer than four examples, or there is one class only.
    """
    present, target = np.unique(target, return_inverse=True)
    rng = np.random.default_rng(seed)
    sizes = np.bincount(groups)
    if sizes[sizes > 0].min() < 4:
        raise InputError(
            f"a group of the validation images has {sizes[sizes > 0].min()} images; DFR needs four "
            "of each",
            "fit.head=dfr",
            "Raise data.perc, or group by fewer attributes (fit.groups)",
        )
    order = rng.permutation(len(target))
    halves = np.zeros(len(target), bool)
    for g in np.flatnonzero(sizes):  # half of each group
        members = order[groups[order] == g]
        halves[members[: len(members) // 2]] = True
    chosen = max(
        STRENGTHS,
        key=lambda c: _worst_group(
            features, target, groups, halves, c, np.random.default_rng(seed)
        ),
    )
    mean, scale = _standard(features)
    kernels, biases = [], []
    for _ in range(REFITS):
        rows = balanced_subset(groups, rng)
        x = (features[rows] - mean) / scale
        kernel, bias = _fitted(x, target[rows], len(present), chosen, "l1")
        kernels.append(kernel)
        biases.append(bias)
    head = _plain(np.mean(kernels, 0), np.mean(biases, 0), mean, scale)
    return _widened(head, present, classes), chosen


def crt(
    features: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    classes: int,
    smote: int,
    seed: int,
    kind: str = "smote",
) -> dict[str, np.ndarray]:
    """Classifier re-training (Kang et al., 2020): a head for balanced groups of training examples.

    Args:
      features: float [n, d].
      target: int [n] in [0, classes); one that is not there is never decided for.
      groups: int [n] >= 0, what is balanced: the classes, as published, or parts of them.
      classes: c.
      smote: neighbours of SMOTE, which adds examples between neighbours until the groups are
        equally large; 0 = a balanced subset.
      seed: of the draws.
      kind: of SMOTE; see `smoted`.

    Returns:
      {"kernel" [d, c], "bias" [c]} for the features as they are.

    Raises:
      InputError: there is one class only, or what `smoted` says.
    """
    present, target = np.unique(target, return_inverse=True)
    mean, scale = _standard(features)
    x = (features - mean) / scale
    if smote:
        class_of = np.zeros(groups.max() + 1, target.dtype)
        class_of[groups] = target
        x, of, _ = smoted(x, groups, smote, seed, kind)
        target = class_of[of]
    else:
        rows = balanced_subset(groups, np.random.default_rng(seed))
        x, target = x[rows], target[rows]
    head = _plain(*_fitted(x, target, len(present), 1.0, "l2"), mean, scale)
    return _widened(head, present, classes)


def smoted(
    features: np.ndarray, groups: np.ndarray, neighbours: int, seed: int, kind: str = "smote"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups filled up to the size of the largest: (features, groups, made bool); the examples that
    were there come first.

    Args:
      kind: imbalanced-learn's "smote" (Chawla et al., 2002); "borderline" (Han et al., 2005) and
        "svm" (Nguyen et al., 2011) start from examples near other groups only, "adasyn" (He et al.,
        2008) has more of them there, and meets the sizes about.

    Raises:
      InputError: imbalanced-learn is not there, or a group has too few examples.
    """
    try:
        from imblearn import over_sampling
    except ImportError as error:
        raise InputError(
            f"SMOTE is imbalanced-learn's, which cannot be imported ({error})",
            "fit.head_smote",
            'Install it with pip install -e ".[tools]"',
        ) from error
    least = np.bincount(groups)
    least = least[least > 0].min()
    if least <= neighbours:
        raise InputError(
            f"the smallest group has {least} training images",
            f"fit.head_smote={neighbours}",
            f"Take at most {least - 1} neighbours",
        )
    maker = {
        "smote": over_sampling.SMOTE,
        "borderline": over_sampling.BorderlineSMOTE,
        "svm": over_sampling.SVMSMOTE,
        "adasyn": over_sampling.ADASYN,
    }[kind]
    near = {"n_neighbors" if kind == "adasyn" else "k_neighbors": neighbours}
    try:
        x, made = maker(**near, random_state=seed % 2**32).fit_resample(features, groups)
    except (ValueError, RuntimeError) as error:  # such as no example near another group
        raise InputError(
            f"imbalanced-learn makes no examples ({error})",
            f"fit.head_smote_kind={kind}",
            "Take smote, or another number of neighbours",
        ) from error
    return x, made, np.arange(len(x)) >= len(features)


def _standard(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(0), np.maximum(features.std(0), 1e-6)


def _fitted(
    x: np.ndarray, target: np.ndarray, k: int, strength: float, penalty: str
) -> tuple[np.ndarray, np.ndarray]:
    """(kernel [d, k], bias [k]) of a logistic regression, 0 for a class that x lacks."""
    if len(np.unique(target)) < 2:
        raise InputError(
            "the images that the head is fitted on are all of one class",
            "fit.head",
            "Give images of several classes, or set fit.head=none",
        )
    l1 = penalty == "l1"
    solver = ("saga" if k > 2 else "liblinear") if l1 else "lbfgs"
    model = LogisticRegression(
        l1_ratio=float(l1), C=strength, solver=solver, max_iter=1000, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the head is judged anyway
        model.fit(x, target)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one logit, which is that of the second class over the first
        coefficients = np.concatenate([0 * coefficients, coefficients])
        intercepts = np.array([0.0, intercepts[0]])
    kernel, bias = np.zeros((x.shape[1], k)), np.zeros(k)
    kernel[:, model.classes_], bias[model.classes_] = coefficients.T, intercepts
    return kernel, bias


def _plain(
    kernel: np.ndarray, bias: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """The head of standardised features as one of the features themselves."""
    kernel = kernel / scale[:, None]
    return {"kernel": kernel.astype(np.float32), "bias": (bias - mean @ kernel).astype(np.float32)}


def _widened(
    head: dict[str, np.ndarray], present: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """The head of the classes that are `present` as one of all, which never says the others."""
    kernel = np.zeros((len(head["kernel"]), classes), np.float32)
    bias = np.full(classes, NEVER, np.float32)
    kernel[:, present], bias[present] = head["kernel"], head["bias"]
    return {"kernel": kernel, "bias": bias}


def _worst_group(
    features: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    fitted: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> float:
    """Worst-group accuracy, on the examples that are not `fitted`, of a head fitted on those."""
    rows = np.flatnonzero(fitted)
    rows = rows[balanced_subset(groups[rows], rng)]
    mean, scale = _standard(features[fitted])
    x = (features[rows] - mean) / scale
    kernel, bias = _fitted(x, target[rows], target.max() + 1, strength, "l1")
    right = (((features - mean) / scale) @ kernel + bias).argmax(1) == target
    return min(float(right[~fitted & (groups == g)].mean()) for g in np.unique(groups[~fitted]))
