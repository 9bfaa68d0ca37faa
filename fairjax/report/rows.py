"""One line per run of a method: the figures of which the tables of many runs are made."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.classifier_config import TREES
from fairjax.errors import InputError
from fairjax.evaluate.figures import main_figure, without_nan
from fairjax.report.workdir import Arm, Run, flat, read

QUARTER = 0.75  # the figure of a run is a mean over the evaluations after this share of it
# In features that were not trained on the attribute, the best first.
KIDS = ("kid/inception", "kid/efficientnet_lite0", "kid/random_conv")
KEYS = ("cell", "seed", "method", "attribute")
MEASURED = ("discrepancy", "worst_group")  # one of the two: of a generator, of a classifier


def rows_of(workdir: Path, cell: str = "") -> list[dict[str, Any]]:
    """The rows of a finished run, one for each of its arms.

    Args:
      workdir: of the run.
      cell: name of what the run is one seed of; "" takes the config's name.

    Returns:
      dicts of JSON values: cell, seed, method, attribute, perc, kimg, discrepancy (mean over the
      evaluations of the last quarter: hard, corrected, against the reference), swing (their
      standard deviation), evaluations, curve [[kimg, discrepancy, KID]], curve_kid (the name of
      that KID, the best of KIDS that was logged; rows before it have random_conv), figures
      {name: [value, low, high]}, chain, ratio, seconds, settings (those that differ from the
      defaults), hardware, versions, date. Those of classifiers: cell, seed, method, attribute (the
      target), worst_group and average (accuracies on the test images), figures, collapsed, and the
      last five.

    Raises:
      InputError: the folder holds no finished run, or one without a judge.
    """
    run = read(workdir)
    if not (workdir / "report/DONE").exists() or not run.arms:
        raise InputError("no finished run", str(workdir), "Run it to its end first")
    if "fit" in run.config:
        return [without_nan(_classifier_row(run, arm, cell or run.title)) for arm in run.arms]
    if not run.main_set:
        raise InputError("no attribute was judged", str(workdir), "Compare runs with labels")
    return [without_nan(_row(run, arm, cell or run.title)) for arm in run.arms]


def _row(run: Run, arm: Arm, cell: str) -> dict[str, Any]:
    name = main_figure(run.main_set)
    evaluated = [line for line in arm.stream if name in line]
    kimg = float(arm.settings["gan.kimg"])
    last = [line[name] for line in evaluated if line["kimg"] > QUARTER * kimg]
    kid = next((k for k in KIDS if any(k in line for line in evaluated)), KIDS[-1])
    wanted = (
        "kid/",
        "frechet/",
        "inception_score/",
        "memorisation/",
        f"fairness_discrepancy/{run.main_set}/hard",
    )
    figures = {key: [f.value, f.low, f.high] for key, f in arm.figures.items()
               if key.startswith(wanted)}  # fmt: skip
    kinds = ("log_loss", "bayes_gap", "log_ratio", "mean_ratio", "effective", "calibration_error")
    ratio = {key: [f.value, f.low, f.high] for key, f in run.weight_figures.items()
             if key.startswith(kinds)}  # fmt: skip
    chain = {link["name"]: link["value"] for link in run.weights.get("chain", [])
             if link["attribute"] == run.main_set}  # fmt: skip
    return {
        "cell": cell,
        "seed": run.config["seed"],
        "method": arm.name,
        "attribute": run.main_set,
        "perc": run.config["data"]["perc"],
        "kimg": kimg,
        "discrepancy": float(np.mean(last)) if last else None,
        "swing": float(np.std(last, ddof=1)) if len(last) > 1 else None,
        "evaluations": len(last),
        "curve": [[line["kimg"], line[name], line.get(kid)] for line in evaluated],
        "curve_kid": kid,
        "figures": figures,
        "chain": chain,
        "ratio": ratio,
        **_circumstances(run, arm, "gan"),
    }


def _classifier_row(run: Run, arm: Arm, cell: str) -> dict[str, Any]:
    return {
        "cell": cell,
        "seed": run.config["seed"],
        "method": arm.name,
        "attribute": run.config["data"]["group_attributes"][0],
        "worst_group": arm.figures["worst_group_accuracy/test"].value,
        "average": arm.figures["average_accuracy/test"].value,
        "figures": {key: [f.value, f.low, f.high] for key, f in arm.figures.items()},
        "collapsed": arm.checks.get("collapsed", ""),
        **_circumstances(run, arm, "fit"),
    }


def _circumstances(run: Run, arm: Arm, stage: str) -> dict[str, Any]:
    """How long it took, with which settings, where and when."""
    return {
        "seconds": {stage: _seconds(run.workdir / f"arms/{arm.name}/{stage}"),
                    "run": sum(_seconds(p.parent) for p in run.workdir.rglob("DONE"))},
        "settings": changed(arm.settings),
        "hardware": run.versions.get("devices", ""),
        "versions": {k: run.versions.get(k, "") for k in ("fairjax", "git", "jax", "python")},
        "date": run.date,
    }  # fmt: skip


def changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted settings as JSON values, without those that have their default.

    So a row stays comparable when the program gets new settings. The seed and the name of the run
    are left out, where a machine keeps the official files, and what is logged only; so are the
    arms: the settings are those of one.
    """
    defaults = TREES[settings.get("experiment", "fair_generation")].defaults()
    usual, found = (json.loads(json.dumps(dict(tree), default=list))
                    for tree in (flat(defaults.to_dict()), settings))  # fmt: skip
    apart = ("seed", "name", "data.celeba.dir", "data.waterbirds.dir", "data.shapes3d.file",
             "data.tfds.data_dir", "eval.features_during")  # fmt: skip
    return {key: value for key, value in sorted(found.items())
            if value != usual.get(key) and key not in apart
            and not key.startswith("arms.")}  # fmt: skip


def settings_of(config: ConfigDict, method: str) -> dict[str, Any]:
    """The `settings` of the rows that a run of this config will leave for a method."""
    return changed(flat(TREES[config.experiment].with_arm(config, method).to_dict()))


def config_of(row: Mapping[str, Any]) -> ConfigDict:
    """The config that a row's method was trained with, as far as the program still knows its keys;
    the inverse of `settings_of`."""
    tree = TREES[row["settings"].get("experiment", "fair_generation")].defaults()
    usual = flat(tree.to_dict())
    tree.update_from_flattened_dict(
        {key: tuple(value) if isinstance(value, list) else value
         for key, value in row["settings"].items() if key in usual}
    )  # fmt: skip
    return tree


def _seconds(folder: Path) -> float:
    return float(json.loads((folder / "DONE").read_text())["seconds"])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows from a JSON-lines file that `launch/sweep.py` wrote, or of a run's folder.

    Raises:
      InputError: neither of the two, or a line that is no row (with its number).
    """
    if path.is_dir():
        return rows_of(path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        mend = "Give a .jsonl file of launch/sweep.py or the folder of a finished run"
        raise InputError(f"cannot be read ({error})", str(path), mend) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            missing = [key for key in KEYS if key not in row]
            missing += [] if any(key in row for key in MEASURED) else [MEASURED[0]]
        except (ValueError, TypeError) as error:
            raise _no_row(path, number, str(error)) from error
        if missing:
            raise _no_row(path, number, f"it lacks {', '.join(missing)}")
        rows.append(row)
    return rows


def rows_so_far(path: Path) -> list[dict[str, Any]]:
    """The rows of a file to which rows are added; none where it is not there yet."""
    return read_rows(path) if path.exists() else []


def _no_row(path: Path, number: int, why: str) -> InputError:
    return InputError(f"line {number} is no row ({why})", str(path), "Remove or mend the line")


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Adds rows at the end of a file, each written whole; the folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, sort_keys=True) + "\n")
