"""What a finished or unfinished run has left in its workdir, read from files only."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, from_entries, main_figure

ENOUGH_SAMPLES = 100
ENOUGH_TESTED = 50
CHECKS = ("limits", "moved", "compared", "notes", "collapsed")


@dataclass(frozen=True)
class Judge:
    """One attribute set's judge, from `judge/<set>/summary.json`.

    Attributes:
      name: the set's attributes joined by "+".
      classes: names of the k classes.
      confusion: int [k, k] on judge_test, row = true class; None where it is not there.
      refused: why the judge must not be used, or "".
      calibration: expected calibration error of each class's probability; empty if not measured.
    """

    name: str
    classes: tuple[str, ...]
    confusion: np.ndarray | None
    refused: str
    calibration: tuple[float, ...] = ()


@dataclass(frozen=True)
class Arm:
    """One arm's files. Missing ones leave an empty value.

    Attributes:
      name: folder name under `arms/`.
      settings: the arm's settings by dotted key, the run's own where the arm does not change them.
      stream: lines of `gan/metrics.jsonl` (of a classifier: `fit/metrics.jsonl`).
      figures: `eval/metrics.json`, name -> Figure.
      checks: what an audit wrote there beside them: "limits", "moved", "compared", "notes"; of a
        classifier "collapsed", the class that it always decides for.
      samples: uint8 [m, H, W, C] or None.
      judged: set -> float [m, k], the judge's probabilities for the samples.
      neighbours: {"samples", "neighbours", "distance"} or None.
      grids: sample grids of the training, oldest first.
    """

    name: str
    settings: dict[str, Any]
    stream: list[dict[str, float]]
    figures: dict[str, Figure]
    samples: np.ndarray | None
    judged: dict[str, np.ndarray]
    neighbours: dict[str, np.ndarray] | None
    grids: list[Path]
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def reweight(self) -> str:
        """How weights came in; "none" on the reference set alone, where all of them are 1."""
        alone = self.settings.get("gan.train_on") == "reference"
        return "none" if alone else str(self.settings.get("gan.reweight", ""))

    @property
    def dro(self) -> bool:
        """Whether a group DRO state q was logged."""
        return any(key.startswith("q/") for line in self.stream for key in line)


@dataclass(frozen=True)
class Run:
    """A whole workdir; every field is empty where its file is missing."""

    workdir: Path
    title: str
    date: str
    config: dict[str, Any]
    command: str
    versions: dict[str, Any]
    manifest: dict[str, Any]
    examples: dict[str, np.ndarray]
    weights: dict[str, Any]
    weight_figures: dict[str, Figure]
    judges: dict[str, Judge] = field(default_factory=dict)
    arms: tuple[Arm, ...] = ()
    # Of the finished stages, in order; energy by kind of chip, where it was counted.
    seconds: dict[str, float] = field(default_factory=dict)
    joules: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def main_set(self) -> str:
        """The attribute set whose proportions are at stake, among the judged ones; "" if none."""
        groups = self.manifest.get("groups") or {}
        wanted = "+".join(groups.get("attributes") or ())
        return wanted if wanted in self.judges else next(iter(self.judges), "")


def read(workdir: Path) -> Run:
    """Reads all files that the report knows.

    Raises:
      InputError: a file is there but cannot be read; the message names it.
    """
    config = read_json(workdir / "config.json")
    versions = read_json(workdir / "versions.json")
    weights = read_json(workdir / "weights" / "summary.json")
    command = workdir / "command.txt"
    done = _done(workdir)
    return Run(
        workdir=workdir,
        title=str(config.get("name") or workdir.resolve().name),
        date=str(versions.get("date") or _date(workdir / "config.json")),
        config=config,
        command=command.read_text("utf-8").strip() if command.exists() else "",
        versions=versions,
        manifest=read_json(workdir / "data" / "manifest.json"),
        examples=_arrays(workdir / "data" / "examples.npz"),
        weights=weights,
        weight_figures=from_entries(weights.get("figures") or {}),
        seconds={name: float(record.get("seconds", 0)) for name, record in done.items()},
        joules={name: record["joules"] for name, record in done.items() if record.get("joules")},
        judges={
            path.parent.name: _judge(path) for path in sorted(workdir.glob("judge/*/summary.json"))
        },
        arms=_arms(workdir, config),
    )


def insufficient(run: Run, arm: Arm, attribute_set: str) -> str:
    """Why the fairness figures of an arm prove nothing, as words; "" where they may be used."""
    judge = run.judges.get(attribute_set)
    if judge is None:
        return "no judge"
    if judge.refused:
        return judge.refused
    if judge.confusion is not None:
        tested = int(judge.confusion.sum(axis=1).min())
        if tested < ENOUGH_TESTED:
            return f"{tested} test images in the judge's smallest class, {ENOUGH_TESTED} needed"
    name = main_figure(attribute_set)
    figure = arm.figures.get(name)
    if figure is None:
        return "not evaluated"
    if figure.n < ENOUGH_SAMPLES:
        return f"{figure.n} samples, {ENOUGH_SAMPLES} needed"
    if not np.isfinite(figure.value):
        return figure.note or "the discrepancy could not be measured"
    return ""


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as dotted keys: {"gan": {"batch": 8}} -> {"gan.batch": 8}."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def read_json(path: Path) -> dict[str, Any]:
    """What a stage wrote, {} where it is not there; raises InputError where it is damaged."""
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError("not JSON", str(path), "Rerun the stage that writes it") from error
    if not isinstance(document, dict):
        raise InputError("not a JSON object", str(path), "Rerun the stage that writes it")
    return document


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError) as error:
        raise InputError("not an NPZ file", str(path), "Rerun the stage that writes it") from error


def _stream(path: Path) -> list[dict[str, float]]:
    """Lines of a metric stream; the last one may be half written while a run goes on."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    out: list[dict[str, float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            mend = "Remove the line or rerun the arm"
            raise InputError(f"line {number} is not JSON", str(path), mend) from error
        out.append({k: float(v) for k, v in entry.items() if isinstance(v, int | float)})
    return out


def _judge(path: Path) -> Judge:
    summary = read_json(path)
    confusion = summary.get("confusion")
    counts = None if confusion is None else np.asarray(confusion, np.int64)
    k = 0 if counts is None else len(counts)
    names = summary.get("classes") or [f"class {index}" for index in range(k)]
    refused = str(summary.get("refused") or "")
    calibration = tuple(map(float, summary.get("calibration_error") or ()))
    return Judge(path.parent.name, tuple(map(str, names)), counts, refused, calibration)


def _arms(workdir: Path, config: dict[str, Any]) -> tuple[Arm, ...]:
    """Arms in the order of the config, then those that only have a folder."""
    overrides = config.get("arms") or {}
    trained = "fit" if "fit" in config else "gan"
    folders = [path.name for path in sorted(workdir.glob("arms/*")) if path.is_dir()]
    shared = flat({key: value for key, value in config.items() if key != "arms"})
    arms = []
    for name in [*overrides, *(folder for folder in folders if folder not in overrides)]:
        root = workdir / "arms" / name
        samples = _arrays(root / "eval" / "samples.npz")
        neighbours = _arrays(root / "eval" / "neighbours.npz")
        own = flat(overrides.get(name) or {})
        measured = read_json(root / "eval" / "metrics.json")
        arms.append(
            Arm(
                name=name,
                settings=shared
                | {f"{trained}.{key.removeprefix(f'{trained}.')}": own[key] for key in own},
                stream=_stream(root / trained / "metrics.jsonl"),
                figures=from_entries(measured.pop("figures", None) or {}),
                samples=samples.get("images"),
                judged={
                    key.removeprefix("judge/"): value
                    for key, value in samples.items()
                    if key.startswith("judge/")
                },
                neighbours=neighbours or None,
                grids=sorted((root / "gan" / "samples").glob("*.png")),
                checks={k: measured[k] for k in CHECKS if k in measured},
            )
        )
    return tuple(arms)


def _done(workdir: Path) -> dict[str, dict[str, Any]]:
    """Stage -> its DONE, in the order in which they were finished; not of the report."""
    records = sorted(workdir.rglob("DONE"), key=lambda path: path.stat().st_mtime)
    names = [path.parent.relative_to(workdir).as_posix() for path in records]
    return {name: read_json(path) for name, path in zip(names, records, strict=True)
            if name != "report"}  # fmt: skip


def _date(path: Path) -> str:
    if not path.exists():
        return ""
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return changed.strftime("%Y-%m-%d %H:%M UTC")
