"""What the discriminator is told of the training images: labels, weights, groups, and how drawn."""

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.experiments import keys
from fairjax.objectives import draw
from fairjax.train import second
from fairjax.train.conditions import Conditions, label_table, of_numbers
from fairjax.train.gan_state import Reals, reals

REFERENCE_SET = "reference_set"  # as gan.condition: which of the two sets an image is from
SETS: tuple[str, ...] = ("biased set", "reference set")


def conditions(config: ConfigDict, dataset: Dataset) -> Conditions | None:
    """The labels that `gan.condition` asks for; None where it asks for none.

    Raises:
      InputError: an attribute does not exist, a training image has no label, or fakes would get
        labels of which there is no real image.
    """
    gan, names = config.gan, tuple(config.gan.condition)
    if not names:
        return None
    if gan.condition_form == "numbers":
        return _numbers(config, dataset)
    reference = dataset.domain[dataset.training] == 1
    if names == (REFERENCE_SET,):  # the paper's conditional baseline; no attribute is read
        classes, cardinalities, titles = reference.astype(np.int32), [2], SETS
    else:
        classes = dataset.classes(names, dataset.training)
        columns = [dataset.attribute_names.index(name) for name in names]
        cardinalities = [dataset.cardinalities[column] for column in columns]
        titles = dataset.class_names(names)
    if missing := int((classes < 0).sum()):
        raise InputError(
            f"{missing} of {len(classes)} training images have no label of {' and '.join(names)}",
            "gan.condition",
            "Give a label for every training image (data.folder.attributes), or leave it empty",
        )
    labels = label_table(gan.condition_form, cardinalities)

    def prior(key: str) -> np.ndarray:
        of = {"reference": classes[reference], "data": classes}.get(
            gan[key], np.arange(len(labels))
        )
        counts = np.bincount(of, minlength=len(labels))
        seen = classes[_trained_on(config, dataset)]
        there = np.bincount(seen, minlength=len(labels)) > 0
        if len(unseen := np.flatnonzero(~there & (counts > 0))):
            raise InputError(
                f"no image that is trained on is '{titles[unseen[0]]}', yet fakes would be",
                f"gan.{key}={gan[key]}",
                f"Use gan.{key}=reference or gan.train_on=union, or give images of it",
            )
        return counts / counts.sum()

    in_training = prior("fake_labels")
    if not gan.sample_labels:
        return Conditions(names, titles, labels, in_training, classes)
    shown = prior("sample_labels")
    return Conditions(names, titles, labels, shown, classes, in_training=in_training)


def _numbers(config: ConfigDict, dataset: Dataset) -> Conditions:
    names, training, reference = tuple(config.gan.condition), dataset.training, 1
    values = dataset.measured(names, training)
    if len(missing := np.flatnonzero(np.isnan(values).any(1))):
        name = names[int(np.isnan(values[missing[0]]).argmax())]
        raise InputError(
            f"{len(missing)} of {len(training)} training images have an empty cell or no row: "
            f"{dataset.ids[training[missing[0]]]} has no {name!r}",
            f"data.folder.attributes={config.data.folder.attributes}",
            "Fill the cells in, or take these images out of the folders",
        )
    wanted = dataset.domain[training] == reference
    return of_numbers(names, values, wanted | (config.gan.fake_labels == "data"))


def groups(
    config: ConfigDict,
    dataset: Dataset,
    log_ratio: np.ndarray,
    cluster: np.ndarray | None = None,
) -> np.ndarray:
    """int32 [n]: the group of every training image, for group DRO and for the log.

    "ratio_bins" needs no labels: quantile bins of the density ratio over both sets, so that the
    last bin holds the images that the biased set lacks most. Nor do "clusters" [n], those of
    `ratio_stage.load_clusters`.
    """
    gan, training = config.gan, dataset.training
    if gan.groups == "dataset":
        return (dataset.domain[training] == 1).astype(np.int32)
    if gan.groups == "ratio_bins":
        values = np.unique(log_ratio)
        edges = values[:-1]  # a bin for each, where there are few: quantiles would fall together
        if len(values) > gan.dro_bins:
            edges = np.quantile(log_ratio, np.linspace(0, 1, gan.dro_bins + 1)[1:-1])
        return np.searchsorted(edges, log_ratio, side="left").astype(np.int32)
    if gan.groups == "clusters":
        assert cluster is not None
        return cluster
    names = tuple(config.data.group_attributes)
    classes = dataset.classes(names, training)
    if (classes < 0).any():
        raise InputError(
            f"{int((classes < 0).sum())} training images have no label of {' and '.join(names)}",
            "gan.groups=attributes",
            "Use gan.groups=ratio_bins, which needs no labels",
        )
    return classes.astype(np.int32)


def real_examples(
    config: ConfigDict,
    dataset: Dataset,
    weight: np.ndarray,
    log_ratio: np.ndarray,
    classes: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
) -> tuple[Reals, draw.Table]:
    """What the discriminator knows of the training images, and how they are drawn."""
    gan, n = config.gan, len(weight)
    ones, used = np.ones(n), _trained_on(config, dataset)
    mass = used * (ones if gan.reweight == "none" else weight)
    # Drawn by w ** share, weighted by the rest: the product is w, whatever the share.
    share = {"resample": 1.0, "hybrid": float(gan.resample_share)}.get(gan.reweight, 0.0)
    drawn_by = np.where(mass > 0, mass, 1) ** share * (mass > 0)
    order = log_ratio if gan.draws == "stratified" else None
    table = draw.weighted(drawn_by, gan.batch, order)
    in_loss = ones
    if gan.reweight == "loss":
        in_loss = mass
    elif gan.reweight == "hybrid":  # an image that is used counts w in the mean over those used
        in_loss = used * weight ** (1 - share) * drawn_by[used].mean()
    group = groups(config, dataset, log_ratio, cluster)
    k = int(group.max()) + 1
    # The losses of the groups in the log are those of real images.
    of_reals = np.where(generated(config, n), -1, group)
    counts = np.bincount(group[used], minlength=k)
    shares = np.bincount(group, mass, minlength=k) / mass.sum()
    # A group of which nothing is drawn would keep what it starts with, out of the others' reach.
    drawn = shares * gan.kimg * 1000 >= 1
    if gan.dro and drawn.sum() < 2:
        raise InputError(
            f"all training images are of {drawn.sum()} group", f"gan.groups={gan.groups}",
            "Take other groups, or gan.dro=False",
        )  # fmt: skip
    q = shares if gan.dro_start == "shares" else drawn / drawn.sum()
    slack = gan.dro_c / np.sqrt(np.maximum(counts, 1))
    return reals(in_loss, of_reals, q, slack, classes), table


def generated(config: ConfigDict, n: int) -> np.ndarray:
    """bool [n]: the training images that `gan.own_from` replaces by samples.

    round(n * `gan.own_share`) of them, at least 1. Which ones the seed alone decides: of equal
    shares every generation keeps the same real images.
    """
    replaced = np.zeros(n, bool)
    if config.gan.own_from:
        count = max(1, round(n * config.gan.own_share))
        rng = np.random.default_rng(keys.number(config.seed, "own samples"))
        replaced[rng.permutation(n)[:count]] = True
    return replaced


def for_second(config: ConfigDict, dataset: Dataset) -> tuple[int, draw.Table] | None:
    """(seed, draws) of the reference images that the second discriminator sees, if there is one."""
    count = second.reals_of(config.gan)
    if not count:
        return None
    reference = np.flatnonzero(dataset.domain[dataset.training] == 1)
    return keys.number(config.seed, "second"), draw.uniform(reference, count)


def _trained_on(config: ConfigDict, dataset: Dataset) -> np.ndarray:
    """bool [n]: the training images that `gan.train_on` leaves in."""
    reference = dataset.domain[dataset.training] == 1
    return {"union": np.ones(len(reference), bool), "reference": reference,
            "biased": ~reference}[config.gan.train_on]  # fmt: skip
