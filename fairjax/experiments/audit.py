"""The command line of `launch/audit.py`: samples of anybody's generator beside a reference set.

Samples (a folder of images, or a generator to draw from) and reference images flow in; who is in
them is said by a table of labels or by the judge of a run. Out come the figures of
`fairjax.experiments.audit_figures`, their verdicts and the page, in a folder that is laid out like
that of a run with one arm, "samples".
"""

import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from fairjax.data import decode
from fairjax.errors import InputError
from fairjax.experiments import audit_predictions, ruling
from fairjax.experiments.audit_images import FEWEST, LEAST_PIXELS, drawn, images_of, shape_of
from fairjax.experiments.audited import check_once
from fairjax.experiments.program import new_folder, read_flags, run_program
from fairjax.models.onnx_network import SCALES

if TYPE_CHECKING:
    from fairjax.experiments.judge_stage import SavedJudge

log = logging.getLogger("fairjax")

SHOWN = 400  # samples that are kept for the page


def audit_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("samples", None, "Folder or zip of images; or a generator to draw --n "
                        "images from: an official .pkl, a .safetensors file with its .json, or "
                        "the folder of a gan stage.", flag_values=values)  # fmt: skip
    flags.DEFINE_integer("n", 10_000, "Images drawn from a generator.", FEWEST,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_integer("seed", 0, "Of these images.", 0, flag_values=values)
    flags.DEFINE_integer("sets", 1, "The protocol of Choi et al. 2020 is --sets=10 --n=10000: the "
                         "discrepancy of the judge's bare decisions in so many sets of --n images, "
                         "as mean and standard error. All other figures are of the first set.",
                         1, flag_values=values)  # fmt: skip
    flags.DEFINE_string("reference", None, "Folder or zip of the images that samples should be "
                        "like; best balanced, and not those that were trained on.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("labels", None, "Table (.csv, .parquet) of labels for the samples, by "
                        "people or another system: a column `file`, each other column an "
                        "attribute. They are taken as true.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("reference_labels", None, "The same for the reference images.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_list("attributes", None, "Attributes to count, a+b for all combinations of two; "
                      "default: each column.", flag_values=values)  # fmt: skip
    flags.DEFINE_list("judge", [], "Judges of a run, RUN/judge/ATTRIBUTES, instead of --labels; or "
                      "one classifier as .onnx, with the next flags.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_list("judge_classes", [], "Names of its outputs, in their order, as in "
                      "--judge_labels.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("judge_images", None, "Folder or zip of images that it was not fitted on: "
                        "they measure its errors.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("judge_labels", None, "Table of their labels; one of --attributes is its "
                        "column.", flag_values=values)  # fmt: skip
    flags.DEFINE_enum("judge_scale", "imagenet", list(SCALES),
                      "How it wants pixels: ImageNet's mean and deviation, -1 to 1, 0 to 1, or 0 "
                      "to 255.", flag_values=values)  # fmt: skip
    flags.DEFINE_integer("resolution", None, "Pixels to which all images are brought; default: "
                         "the judge's, else the first sample's.", LEAST_PIXELS,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_enum("features", "efficientnet_lite0", ["efficientnet_lite0", "none"],
                      "Network for distances beside the untrained one.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_integer("feature_resolution", 128, "Pixels at which it sees an image.", 32,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_string("onnx_features", None, "A network of yours (.onnx): distances in the rows "
                        "of its first output as well.", flag_values=values)  # fmt: skip
    flags.DEFINE_enum("onnx_scale", "imagenet", list(SCALES),
                      "How it wants pixels, as --judge_scale.", flag_values=values)  # fmt: skip
    flags.DEFINE_bool("judge_features", False, "Distances in the last layers of the judges of runs "
                      "as well.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("inception", None, "pt_inception-2015-12-05-6726825d.pth of pytorch-fid: "
                        "also FID, KID and the like in its features, and the Inception score.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("weights", None, "Column of --labels or --reference_labels, or of both: "
                        "how much an image counts in distances, fidelity and variety (not in "
                        "shares).", flag_values=values)  # fmt: skip
    ruling.define(values)
    flags.DEFINE_string("out", None, "New or empty folder.", flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; its exit codes are in `--help`, 2 where the input cannot be used.

    With --predictions it is `fairjax.experiments.audit_predictions`.
    """
    argv = list(sys.argv if argv is None else argv)
    if any(arg.startswith("-") and arg.lstrip("-").partition("=")[0] == "predictions"
           for arg in argv[1:]):  # fmt: skip
        return audit_predictions.main(argv)
    run_program(
        argv,
        lambda argv: sys.exit(_run(argv)),
        audit_flags,
        about=": measures who is in samples and how good they are, beside a reference set; with "
        "--predictions=FILE --help: what a classifier decides, by group.",
        example="python launch/audit.py --samples=DIR --labels=samples.csv --reference=DIR "
        "--reference_labels=reference.csv --out=audit",
    )


def _run(argv: list[str]) -> int:
    values = audit_flags()
    read_flags(values, argv, needed=("samples", "reference", "out"))
    foreign = [path for path in values.judge if Path(path).suffix == ".onnx"]
    if values.judge and (values.labels or (values.attributes and not foreign)):
        raise InputError("two sources of labels", "--judge and --labels", "Give one of them")
    check_once(values.attributes or [], "--attributes")
    if foreign:
        _check_foreign(values)
    source = Path(values.samples).expanduser()
    if values.sets > 1 and not (values.judge and _is_generator(source)):
        raise InputError("sets of images are drawn and judged", f"--sets={values.sets}",
                         "Give a generator as --samples, and --judge")  # fmt: skip
    if values.labels and _is_generator(source):
        raise InputError("labels of images that are drawn now", f"--labels={values.labels}",
                         "Draw with launch/sample.py, label, and audit the folder")  # fmt: skip
    out = new_folder(values.out)
    # Imported here, so that --help and a wrong flag do not wait for the libraries.
    from fairjax.evaluate import features
    from fairjax.evaluate.measured import PART
    from fairjax.experiments import workdir
    from fairjax.experiments.audit_figures import (
        Judged,
        figures_of,
        names_of,
        over_sets,
        own_labels,
        saved,
    )
    from fairjax.experiments.judge_stage import read_judge
    from fairjax.experiments.observed import observe
    from fairjax.experiments.saved_generator import load_generator
    from fairjax.report.build import build
    from fairjax.report.words import AUDITED

    rules = ruling.Rules.read(values)
    workdir.log_to(None)
    networks = features.networks(
        values.features, values.feature_resolution, values.inception, values.onnx_features,
        values.onnx_scale, f"--onnx_features={values.onnx_features}",
    )  # fmt: skip
    judges = [_foreign_judge(values)] if foreign else [
        read_judge(Path(path), f"--judge={path}") for path in values.judge
    ]  # fmt: skip
    check_once([judge.label for judge in judges], "--judge")
    if values.judge_features:
        layers = [judge.features for judge in judges if judge.features is not None]
        if not layers:
            raise InputError("no judge of a run", "--judge_features", "Give one as --judge "
                             "(of an ONNX network, --onnx_features)")  # fmt: skip
        networks += layers
    generator = load_generator(source) if _is_generator(source) else None
    shape = shape_of(values, generator, [(judge.resolution, judge.channels) for judge in judges])
    if generator is None:
        folder = images_of(values.samples, "samples", shape, values.labels, values.weights)
        n, rows, weights = len(folder.pixels), folder.rows, folder.weights
        images: Iterable[np.ndarray] = (folder.pixels[i : i + PART] for i in range(0, n, PART))
    else:
        n, rows, weights = values.n, [None] * values.n, None
        images = drawn(generator, n, values.seed, shape)
    reference = images_of(
        values.reference, "reference", shape, values.reference_labels, values.weights
    )
    if not values.labels and not values.reference_labels:
        rows, own = own_labels(rows, reference.rows, [judge.label for judge in judges])
        reference = reference._replace(rows=own)
    if values.weights and weights is None and reference.weights is None:
        raise InputError("no table has this column", f"--weights={values.weights}", "Name one")
    if judges:
        judged = [Judged.by_judge(judge, reference) for judge in judges]
    else:
        judged = Judged.by_labels(rows, reference.rows, values.attributes)
    known = names_of(judged, [network.name for network in networks], values.sets > 1)
    known += [f"judge_disagreement/{judge.label}" for judge in judges if judge.votes]
    rules.check_names(known)
    scores = {judge.label: judge.each for judge in judges}
    seen = observe(images, n, scores, [(network, n) for network in networks], weights, SHOWN)
    judged = [one._replace(samples=seen.scores.get(one.label, one.samples),
                           votes=seen.votes.get(one.label)) for one in judged]  # fmt: skip
    figures = figures_of(seen.measured, reference, judged, networks)
    if values.sets > 1:
        seeds = range(values.seed + 1, values.seed + values.sets)
        more = (observe(drawn(generator, n, seed, shape), n, scores).scores for seed in seeds)
        figures += over_sets(judged, more)
    found = rules.ruling({figure.name: figure for figure in figures})
    out.mkdir(parents=True, exist_ok=True)
    given = "/".join(Path(values.samples).resolve().parts[-2:])
    about = ConfigDict({"name": f"audit of {given}"})
    workdir.describe(out, about, ["python", *argv])
    saved(out, AUDITED, seen.first, judged, len(reference.pixels), figures, found.checks())
    page = build(out)
    found.log()
    log.info("figures: %s, open %s", out / f"arms/{AUDITED}/eval/metrics.json", page)
    return found.exit_code()


def _check_foreign(values: flags.FlagValues) -> None:
    """Raises InputError where not all is given that a classifier of the user's needs."""
    needed = ("judge_classes", "judge_images", "judge_labels", "attributes")
    missing = [name for name in needed if not values[name].value]
    if missing or len(values.judge) > 1 or len(values.attributes) > 1:
        found = (
            f"without --{', --'.join(missing)}" if missing else "more than one judge or attribute"
        )
        raise InputError(found, f"--judge={values.judge[0]}", "Its errors must be measured: give "
                         "--judge_classes, --judge_images, --judge_labels and one of --attributes"
                         )  # fmt: skip
    if len(values.judge_classes) < 2:
        raise InputError("one class", "--judge_classes", "Name all outputs, such as no,yes")


def _foreign_judge(values: flags.FlagValues) -> "SavedJudge":
    """The classifier of the user's, with its errors on the images that were labelled for it."""
    from fairjax.experiments.audit_figures import classes_by_name
    from fairjax.experiments.onnx_judge import OnnxJudge, with_errors

    score = OnnxJudge(Path(values.judge[0]), values.judge_scale)
    shape = decode.Shape(score.resolution, "center", 3)
    tested = images_of(values.judge_images, "judge_images", shape, values.judge_labels)
    label, names = values.attributes[0], tuple(values.judge_classes)
    truth = classes_by_name(label, names, tested.rows, "--judge_labels")
    return with_errors(score, label, names, score.resolution, tested.pixels, truth,
                       "--judge_classes")  # fmt: skip


def _is_generator(path: Path) -> bool:
    return path.suffix in (".pkl", ".safetensors") or (path / "generator.safetensors").is_file()
