"""The page of `robust_classification`: accuracy by group of every arm, and one sentence."""

from pathlib import Path
from typing import Any

from fairjax.data.cache import write_json
from fairjax.evaluate.figures import Figure, as_entries, without_nan
from fairjax.report import drawing, latent, tables, words
from fairjax.report.pages import write_pages
from fairjax.report.tables import Cell, Table
from fairjax.report.workdir import Arm, Run, flat, read

BASELINE = "erm"
WORST, AVERAGE = "worst_group_accuracy/test", "average_accuracy/test"


def build(workdir: Path) -> Path:
    """Writes `report/index.html` and `report/metrics.json` of a run, finished or not.

    Args:
      workdir: the run's folder. Only read, apart from its `report/` folder.

    Returns:
      path of the page, one file that needs no other file and no network.

    Raises:
      InputError: a file in the workdir is there but cannot be read.
    """
    run = read(workdir)
    folder = Path(workdir) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    said, tone = answer(run)
    write_json(
        folder / "metrics.json",
        without_nan(
            {
                "answer": said,
                "arms": {
                    arm.name: {"figures": as_entries(arm.figures.values()), **arm.checks}
                    for arm in run.arms
                },
            }
        ),
    )
    write_pages(folder, _context(run, said, tone), {"classifiers.html.j2": "index.html"})
    return folder / "index.html"


def _context(run: Run, said: str, tone: str) -> dict[str, Any]:
    overrides = run.config.get("arms") or {}
    return {
        "run": run,
        "answer": said,
        "tone": tone,
        "headline": _picture(run),
        "arms": _arms(run),
        "groups": _groups(run),
        "exits": _exits(run),
        "gaps": latent.gaps(run),
        "latent": latent.read(run),
        "curves": _curves(run),
        "roles": tables.roles(run),
        "weights": tables.weights(run),
        "settings": Table(
            ["arm", "own settings"],
            [[Cell(arm.name), Cell(_settings(overrides.get(arm.name)))] for arm in run.arms],
        ),
        "facts": tables.facts(run),
        "config": tables.config(run),
        "licences": run.manifest.get("licences") or [],
    }


def _settings(own: dict[str, Any] | None) -> str:
    return ", ".join(f"{k} = {v}" for k, v in flat(own or {}).items()) or "the defaults of the run"


def answer(run: Run) -> tuple[str, str]:
    """One sentence on the worst groups, and its tone: good, bad or open."""
    measured = [arm for arm in run.arms if WORST in arm.figures]
    if not measured:
        return "No arm was measured.", "open"
    best = max(measured, key=lambda arm: arm.figures[WORST].value)
    top = best.figures[WORST]
    words_of_best = (
        f"{best.name} has the highest worst-group accuracy, {words.percent(top)} "
        f"(average {words.percent(best.figures[AVERAGE])})"
    )
    collapsed = [arm.name for arm in measured if arm.checks.get("collapsed")]
    more = f"; constant predictors: {', '.join(collapsed)}" if collapsed else ""
    base = next((arm for arm in measured if arm.name == BASELINE), None)
    if base is None or best is base:
        return f"{words_of_best}{more}.", "open"
    other = base.figures[WORST]
    beside = f"plain training (erm) {words.percent(other)} (average " \
             f"{words.percent(base.figures[AVERAGE])})"  # fmt: skip
    if top.low > other.high:
        return f"{words_of_best}, {beside}{more}.", "good"
    sure = "the intervals overlap, so this run does not tell them apart"
    return f"{words_of_best}, {beside}: {sure}{more}.", "open"


def _figure(arm: Arm, name: str) -> Cell:
    figure: Figure | None = arm.figures.get(name)
    if figure is None:
        return Cell("not run", faint=True)
    note = f"n = {figure.n:,}" + (f"; {figure.note}" if figure.note else "")
    return Cell(words.percent(figure), note)


def _arms(run: Run) -> Table | None:
    heads = ["arm", "worst group", "average", "average, weighted as in training", "worst class",
             "worst group in training", "average in training", "remark"]  # fmt: skip
    names = [WORST, AVERAGE, f"{AVERAGE}/train_weighted", "worst_class_accuracy/test",
             "worst_group_accuracy/train", "average_accuracy/train"]  # fmt: skip
    rows = []
    for arm in run.arms:
        constant = arm.checks.get("collapsed")
        remark = f"constant predictor: always {constant}" if constant else ""
        worst = arm.figures.get(WORST)
        remark = remark or (f"worst {worst.note}" if worst is not None else "")
        rows.append([Cell(arm.name), *(_figure(arm, name) for name in names), Cell(remark)])
    return Table(heads, rows) if rows else None


def _groups(run: Run) -> Table | None:
    names = list(dict.fromkeys(
        name for arm in run.arms for name in arm.figures if name.startswith("accuracy/")
        and name.endswith("/test")))  # fmt: skip
    titles = [name.removeprefix("accuracy/").removesuffix("/test") for name in names]
    rows = [[Cell(arm.name), *(_figure(arm, name) for name in names)] for arm in run.arms]
    return Table(["arm", *titles], rows) if names else None


def _exits(run: Run) -> Table | None:
    """Where test images leave the networks that have exits, by arm and group."""
    rows = []
    numbers = sorted({name.split("/")[1] for arm in run.arms for name in arm.figures
                      if name.startswith("exit/")}, key=int)  # fmt: skip
    for arm in run.arms:
        names = [name.split("/") for name in arm.figures if name.startswith("exit/1/")]
        for who in (name[2] for name in names if name[3] == "test"):
            shares = (_figure(arm, f"exit/{j}/{who}/test") for j in numbers)
            rows.append([Cell(arm.name), Cell(who), *shares])
    return (
        Table(["arm", "images", *(f"leave by exit {j}" for j in numbers)], rows) if rows else None
    )


def _picture(run: Run) -> drawing.Picture | None:
    rows = []
    base = next((arm for arm in run.arms if arm.name == BASELINE), None)
    for i, arm in enumerate(run.arms):
        if (figure := arm.figures.get(WORST)) is not None:
            colour = drawing.COLOURS[i % len(drawing.COLOURS)]
            rows.append((arm.name, figure.value, figure.low, figure.high, colour))
    target = base.figures[WORST].value if base is not None and WORST in base.figures else None
    title = "share of the worst group's test images that are classified rightly"
    return drawing.shares(rows, target, title, f"dashed: {BASELINE}") if rows else None


def _curves(run: Run) -> drawing.Picture | None:
    """Worst-group accuracy on the validation images over the training: plain training and the
    three arms that end best on the test images (more would hide each other)."""
    name = "worst_group/validation"
    lines = []
    best = sorted(
        (a for a in run.arms if WORST in a.figures), key=lambda a: -a.figures[WORST].value
    )
    shown = {BASELINE, *(arm.name for arm in best[:3])}
    for i, arm in enumerate(run.arms):
        if arm.name not in shown:
            continue
        seen = [(line["kimg"], 100 * line[name]) for line in arm.stream if name in line]
        if seen:
            x, y = zip(*seen, strict=True)
            lines.append(drawing.Line(arm.name, x, y, drawing.COLOURS[i % len(drawing.COLOURS)]))
    title = "Worst-group accuracy on the validation images, %"
    across = "thousand training images seen"
    return drawing.curves(lines, title, title, top=100.0, across=across) if lines else None
