"""From a table of labelled images (CelebA, 3D Shapes, TFDS) to roles and decoded images."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL
from ml_collections import ConfigDict

from fairjax.data import cache, decode, pool, splits
from fairjax.data.dataset import ROLES, Collected
from fairjax.data.folder import stop_or_report
from fairjax.data.proportions import class_names, classes, group_proportions, true_ratio
from fairjax.errors import InputError

WHOLE = 3  # all images are prepared when the roles use at least a third of them


class Table(NamedTuple):
    """n labelled images, not decoded yet."""

    ids: tuple[str, ...]
    labels: np.ndarray  # int8 [n, A], -1 = unknown
    values: dict[str, tuple[str, ...]]  # attribute -> names of its values
    part: np.ndarray | None  # int8 [n] of splits.TRAIN, VALIDATION, TEST; None = one pool
    items: Sequence[Any]  # n picklable descriptions for `render`
    render: pool.Render
    context: Any
    facts: dict[str, Any]  # decides the pixels of all n images
    licence: str
    workers: int | None = None  # processes that render; None = one per core


class Selection(NamedTuple):
    """Roles as indices into a Table, and what is known about them."""

    roles: dict[str, np.ndarray]
    reference: np.ndarray  # indices of domain 1; the other images of ratio_test are of domain 0
    groups: tuple[str, ...]
    true_ratio: dict
    notes: list[str]


def select(config: ConfigDict, table: Table) -> Selection:
    """Gives roles to images by `data.split`; a function of the labels and the seed only.

    Raises:
      InputError: unknown attribute or split, or too few images; it names the numbers available.
    """
    data = config.data
    paper = data.split == "paper"
    if data.split == "official":
        return _official(config, table)
    if data.split not in ("paper", "proportions"):
        mend = 'Take "paper", "proportions" or (classifiers) "official"'
        raise InputError(f"unknown split {data.split!r}", "data.split", mend)
    if paper and table.part is None:
        mend = 'Set data.source="celeba", or data.split="proportions"'
        raise InputError("the paper's split needs CelebA's official parts", "data.split", mend)
    if paper and data.paper_setting in splits.PAPER_ATTRIBUTES:
        groups = splits.PAPER_ATTRIBUTES[data.paper_setting]
    else:
        groups = tuple(data.group_attributes)
    judged = tuple(dict.fromkeys(a for s in config.judge.attribute_sets for a in s))
    group_of, names = _classes(table, groups, "data.group_attributes")
    judged_of, judged_names = _classes(table, judged, "judge.attribute_sets")
    n = len(table.ids)
    rng = np.random.default_rng([int(config.seed), 0])
    part = np.zeros(n, np.int8) if table.part is None else table.part
    pools = [[0]] * 4 if table.part is None else [[1], [1], [2], [0, 1, 2]]
    stock = splits.Stock(part, rng.permutation(n))
    if paper:
        train, test, shares = _paper_training(data, stock, part, group_of, names)
    else:
        shares = group_proportions(
            len(names), data.bias, data.biased_proportions, data.reference_proportions
        )
        sizes = (int(data.n_biased), round(data.n_biased * data.perc))
        half = data.n_ratio_test // 2
        train = splits.take_training(
            stock, group_of, names, shares, sizes, [0], "training", "data.n_biased"
        )
        test = splits.take_training(
            stock, group_of, names, shares, (half, half), pools[0], "ratio_test",
            "data.n_ratio_test",
        )  # fmt: skip
    wanted = splits.Sizes(
        len(train[0]),
        len(train[1]),
        2 * (data.n_ratio_test // 2),
        data.n_judge_fit,
        data.n_judge_test,
        data.n_metric_reference,
    )
    rest, notes = splits.take_rest(
        stock, group_of, shares[1], judged_of, len(judged_names), wanted, pools[1:]
    )
    roles = {
        "train_biased": train[0],
        "train_reference": train[1],
        "ratio_test": np.sort(np.concatenate(test)),
        **rest,
    }
    is_reference = [train[1], test[1], rest["metric_reference"]]
    ratio = true_ratio(groups, names, *shares)
    return Selection(roles, np.concatenate(is_reference), groups, ratio, notes)


def _official(config: ConfigDict, table: Table) -> Selection:
    """The official parts, whole: training is train_biased, validation train_reference, test
    judge_test (for classifiers)."""
    if table.part is None:
        mend = "Take celeba or waterbirds, or data.split=proportions"
        raise InputError("this data has no official parts", "data.split", mend)
    groups = tuple(config.data.group_attributes)
    group_of, names = _classes(table, groups, "data.group_attributes")
    target, _ = _classes(table, groups[:1], "data.group_attributes")
    train, validation, test = (np.flatnonzero((table.part == p) & (target >= 0)) for p in range(3))
    roles = {role: np.zeros(0, np.int64) for role in ROLES}
    roles |= {"train_biased": train, "train_reference": validation, "judge_test": test}
    counts = [np.bincount(group_of[of][group_of[of] >= 0], minlength=len(names))
              for of in (train, validation)]  # fmt: skip
    return Selection(
        roles,
        validation,
        groups,
        true_ratio(groups, names, counts[0].tolist(), counts[1].tolist()),
        [],
    )


Pair = tuple[np.ndarray, np.ndarray]  # of the biased and of the reference set


def _paper_training(
    data: ConfigDict,
    stock: splits.Stock,
    part: np.ndarray,
    group_of: np.ndarray,
    names: tuple[str, ...],
) -> tuple[Pair, Pair, tuple[tuple[float, ...], tuple[float, ...]]]:
    """(training images, ratio_test images, group shares) of the paper's split, each for both sets.

    ratio_test comes from the paper's validation candidates, with the shares of the training sets.
    """
    cuts = []
    for p in (splits.TRAIN, splits.VALIDATION):
        here = np.flatnonzero(part == p)
        pair = splits.paper_split(group_of[here], data.paper_setting, data.perc, p)
        cuts.append([here[indices] for indices in pair])
    (biased, reference), validation = cuts
    stock.claim(np.concatenate([biased, reference]))
    shares = (
        tuple(np.bincount(group_of[biased], minlength=len(names)) / len(biased)),
        (1 / len(names),) * len(names),
    )
    tests = []
    for candidates, of_groups in zip(validation, shares, strict=True):
        group_here = np.where(np.isin(np.arange(len(part)), candidates), group_of, -1)
        taken, _ = splits.take_training(
            stock, group_here, names, (of_groups, of_groups), (data.n_ratio_test // 2, 0),
            [splits.VALIDATION], "ratio_test", "data.n_ratio_test",
        )  # fmt: skip
        tests.append(taken)
    return (biased, reference), (tests[0], tests[1]), shares


def hint(name: str, known: list[str]) -> str:
    """Words for an error message: the known names closest to a mistyped one, or all."""
    return f"Did you mean one of {difflib.get_close_matches(name, known, 3, 0.4) or known}?"


def _classes(
    table: Table, attributes: tuple[str, ...], where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    known = list(table.values)
    for name in attributes:
        if name not in known:
            raise InputError(f"unknown attribute {name!r}", where, hint(name, known))
        if len(table.values[name]) < 2:
            found = f"{name!r} has no second value besides {list(table.values[name])}"
            raise InputError(found, where, "Take another attribute, or more of its values")
    if where.startswith("data") and not attributes:
        raise InputError("no attribute", where, f"Name one or more of {known}")
    columns = [known.index(a) for a in attributes]
    values = [table.values[a] for a in attributes]
    return classes(table.labels[:, columns], [len(v) for v in values]), class_names(values)


def collect(config: ConfigDict, name: str, table: Table, log: Callable[[str], None]) -> Collected:
    """Selects, then decodes into the cache: all images when a third of them is used, else those.

    Args:
      config: the whole experiment's config.
      name: the source's name.
      table: the labelled images.
      log: called with one line at a time.
    """
    data = config.data
    if data.crop not in decode.CROPS:
        raise InputError(f"unknown crop {data.crop!r}", "data.crop", f"Take one of {decode.CROPS}")
    selection = select(config, table)
    for line in selection.notes:
        log(f"data: {line}")
    used = np.unique(np.concatenate(list(selection.roles.values())))
    if WHOLE * len(used) >= len(table.ids):
        used = np.arange(len(table.ids))
    where = np.full(len(table.ids), -1, np.int32)
    where[used] = np.arange(len(used))
    facts = {
        **table.facts,
        "crop": data.crop,
        "pillow": PIL.__version__,
        "used": cache.sha256([table.ids[i] for i in used]),
    }

    def fill(images: np.ndarray) -> dict[str, Any]:
        log(f"data: reading {len(used)} of {len(table.ids)} images")
        items = [table.items[i] for i in used]
        wrong = pool.fill(
            images, range(len(used)), items, table.render, table.context, log, "reading images",
            table.workers,
        )  # fmt: skip
        return {"errors": {str(i): text for i, text in wrong.items()}}

    entry = cache.get(
        name, facts, (len(used), data.resolution, data.resolution, data.channels), fill, log
    )
    errors = {int(i): text for i, text in entry.notes["errors"].items()}
    ids = tuple(table.ids[i] for i in used)
    bad = tuple(f"{ids[i]}: {text}" for i, text in sorted(errors.items()))
    if bad and not data.skip_bad_files:
        cache.forget(entry.key)  # a mended file is read again, whether or not `facts` tell of it
    stop_or_report(bad, bool(data.skip_bad_files), log)
    broken = np.array(sorted(errors), int)
    roles = {}
    for role, indices in selection.roles.items():
        positions = where[indices]
        roles[role] = positions[~np.isin(positions, broken)]
    domain = np.full(len(used), -1, np.int8)
    domain[where[selection.roles["train_biased"]]] = 0
    domain[where[selection.roles["ratio_test"]]] = 0
    domain[where[selection.reference]] = 1
    return Collected(
        entry=entry,
        attributes=table.labels[used],
        attribute_values=table.values,
        ids=ids,
        domain=domain,
        roles=roles,
        licences=(table.licence,),
        group_attributes=selection.groups,
        true_ratio=selection.true_ratio,
        bad_files=bad,
        notes={"split": selection.notes},
    )
