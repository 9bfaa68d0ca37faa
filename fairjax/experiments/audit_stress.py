"""`--stress` of an audit of predictions: labels and scores of a table, images of a trained arm."""

from collections.abc import Iterator, Sequence

from absl import flags

from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate import stress
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.rates import Groups, confusion
from fairjax.evaluate.stress import Point
from fairjax.experiments.audited_arm import STRESSES, TRANSFORMS, AuditedArm

OF_TABLES = ("flips", "noise")
ALL = (*OF_TABLES, *STRESSES)


def check(values: flags.FlagValues, table: Predictions, arm: AuditedArm | None) -> None:
    """Raises InputError for a kind that there is not, or that this table cannot have."""
    where = f"--stress={','.join(values.stress)}"
    for kind in values.stress:
        if kind not in ALL:
            raise InputError(f"{kind!r}", where, f"Give some of {', '.join(ALL)}")
        if kind == "noise" and (values.decision or table.scores is None):
            raise InputError("decisions that do not follow from scores", where,
                             "Give --score without --decision, or --stress=flips")  # fmt: skip
        if kind in STRESSES and arm is None:
            raise InputError(f"{kind}: the network of a table is not known", where,
                             "Give --predictions=RUN/arms/NAME, or flips, noise")  # fmt: skip


def names(values: flags.FlagValues, sets: Sequence[Groups]) -> list[str]:
    """The names of the figures that `stressed` will return."""
    if TRANSFORMS not in values.stress:
        return []
    from fairjax.train.attacks import HARMLESS

    return [f"{figure}/{change}/{groups.label}/{group}" for figure in stress.STEADY
            for change in HARMLESS for groups in sets for group in groups.names]  # fmt: skip


def stressed(
    values: flags.FlagValues, table: Predictions, sets: Sequence[Groups], arm: AuditedArm | None
) -> tuple[list[Point], list[Figure]]:
    """(points of all curves, figures of harmless changes) of the kinds that were asked for."""
    kinds = list(dict.fromkeys(values.stress))
    points: list[Point] = []
    for kind in kinds:
        for groups in sets if kind in OF_TABLES else ():
            points += _of_table(kind, values.threshold, table, groups)
    of_images = [kind for kind in kinds if kind in STRESSES]
    if arm is None or not of_images:
        return points, []
    more, figures = arm.stressed(of_images, table.truth, table.positive, values.threshold, sets)
    return points + more, figures


def _of_table(kind: str, threshold: float, table: Predictions, groups: Groups) -> Iterator[Point]:
    members = [groups.of == k for k in range(len(groups.names))]
    if kind == "flips":
        damages = [stress.flips(table.truth[m], table.decided[m]) for m in members]
    else:
        assert table.scores is not None
        damages = [stress.noise(table.truth[m], table.scores[m], threshold) for m in members]
    counts = confusion(table.truth, table.decided, groups.of, len(groups.names))
    return stress.curves(kind, counts, damages, groups)
