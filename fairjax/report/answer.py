"""The report's answer in plain words."""

from collections.abc import Callable
from typing import NamedTuple

from fairjax.evaluate.figures import Figure, main_figure
from fairjax.report import words
from fairjax.report.collapse import collapsed
from fairjax.report.rows import KIDS
from fairjax.report.workdir import Arm, Run, insufficient

DOUBTFUL = 0.05  # share of samples on which the networks of a judge differ that is worth a word


class Answer(NamedTuple):
    """What the top of the page says; its numbers lead to the rows of their figures.

    Attributes:
      headline: one short sentence.
      tone: "good", "bad", "open" (nothing proven), which only colours the headline.
      sentences: the answer with numbers.
      evidence: the distances behind it.
      caveats: what the numbers do not say.
    """

    headline: str
    tone: str
    sentences: list[str]
    evidence: list[str]
    caveats: list[str]

    def plain(self) -> "Answer":
        """The same, without what leads to rows."""
        headline, tone, *texts = self
        return Answer(words.unled(headline), tone, *([words.unled(t) for t in ts] for ts in texts))


def _led(figure: Figure, written: Callable[[Figure], str] = words.number) -> str:
    return words.led(written(figure), figure.name)


def _on_training(arms: list[Arm]) -> list[str]:
    """What has to be said of how some of the arms were trained."""
    said = []
    if any(arm.dro for arm in arms):
        said.append("The target of a DRO run is q, not the reference.")
    penalised = [arm for arm in arms if words.penalised(arm)]
    if names := [arm.name for arm in penalised if not words.by_ratio(arm)]:
        said.append(
            f"Labels were used in the training of {', '.join(names)}, by a penalty that may have "
            "gamed its own judge; the figures come from another judge."
        )
    if names := [arm.name for arm in penalised if words.by_ratio(arm)]:
        said.append(
            f"A penalty on groups of the ratios steered {', '.join(names)} and may have gamed the "
            "network that tells them; the figures come from a judge that training did not see."
        )
    return said


def question(run: Run) -> str:
    """What the page answers."""
    trained = "gan" in run.config or not run.config
    whose = "a generator trained on these images" if trained else "the generator of these samples"
    if not run.judges:
        return f"Does {whose} come nearer to the reference images than to the biased ones?"
    shown = run.main_set.replace("+", " and ").replace("_", " ")
    beside = " than those of an unweighted one" if words.baseline(run) and len(run.arms) > 1 else ""
    price = f"are its images worse{beside}" if beside else "how near do its images come to them"
    return f"Does {whose} show {shown} in the proportions of the reference set, and {price}?"


def answer(run: Run) -> Answer:
    """The answer of a run; what has collapsed stands first among the caveats."""
    said = _answer(run)
    return said._replace(caveats=[*collapsed(run), *said.caveats])


def _answer(run: Run) -> Answer:
    """The one-paragraph answer; never claims more than the intervals allow."""
    evaluated = [arm for arm in run.arms if arm.figures]
    if not evaluated:
        return Answer("No generator has been evaluated yet", "open", [], [], [])
    if not run.judges:
        return _without_labels(evaluated)
    judge = run.judges[run.main_set]
    index = words.shown_class(run)
    name = judge.classes[index] if index < len(judge.classes) else f"class {index}"
    sentences = []
    biased, reference = (
        words.role_share(run, f"train_{part}", name) for part in ("biased", "reference")
    )
    if biased is not None and reference is not None:
        sentences.append(
            f"Of the biased training images {100 * biased:.0f} % show {name}, "
            f"of the reference images {100 * reference:.0f} %."
        )
    reasons = {arm.name: insufficient(run, arm, run.main_set) for arm in evaluated}
    proven = [arm for arm in evaluated if not reasons[arm.name]]
    for arm in evaluated:
        if reasons[arm.name]:
            sentences.append(
                f"The {words.described(arm)}: insufficient evidence ({reasons[arm.name]})."
            )
        elif (share := words.share_of(arm, run.main_set, index)) is not None:
            verb = "show" if arm.name == words.AUDITED else "shows"
            sentences.append(
                f"The {words.described(arm)} {verb} {_led(share, words.percent)} {name}."
            )
    evidence: list[str] = []
    headline, tone = "Insufficient evidence", "open"
    if proven:
        headline, tone, evidence = _compared(run, proven, name, index)
    evidence += _quality(evaluated)
    covered = "the drawing of the samples and the judge's errors"
    if any(f"judge_disagreement/{run.main_set}" in arm.figures for arm in evaluated):
        covered = "the drawing of the samples, the judge's errors and what its networks differ in"
    if judge.confusion is None:
        covered = "the drawing of the samples, whose labels are taken as true"
    caveats = [
        f"Intervals are 95 % and cover {covered}; they say nothing about other training seeds.",
        *_read_differently(evaluated, run.main_set),
    ]
    return Answer(headline, tone, sentences, evidence, caveats + _on_training(evaluated))


def _read_differently(arms: list[Arm], judged: str) -> list[str]:
    """Where the networks of the judge do not see the same in the samples."""
    key = f"judge_disagreement/{judged}"
    differ = [(arm, arm.figures[key]) for arm in arms if key in arm.figures]
    doubtful = [f"{_led(figure, words.percent)} of the samples of {arm.name}"
                for arm, figure in differ if figure.value > DOUBTFUL]  # fmt: skip
    if not doubtful:
        return []
    return [
        f"Two networks of the judge decide differently on {' and '.join(doubtful)} "
        f"({differ[0][1].note}): they cannot be told apart well, and intervals are wider for it."
    ]


def _compared(run: Run, proven: list[Arm], name: str, index: int) -> tuple[str, str, list[str]]:
    """Headline, tone and sentences from the discrepancies of the arms with enough evidence."""
    key = main_figure(run.main_set)
    first = words.baseline(run)
    if first is None or first not in proven or len(proven) == 1:
        arm = proven[0]
        share = words.share_of(arm, run.main_set, index)
        text = (
            f"{_led(share, words.percent)} {name}" if share is not None else _led(arm.figures[key])
        )
        lines = [
            f"The fairness discrepancy of the {words.described(a)} against the reference is "
            f"{_led(a.figures[key])}."
            for a in proven
        ]
        shown = "samples show" if arm.name == words.AUDITED else "generator shows"
        return f"The {shown} {text}", "open", lines
    old, verdicts, lines = first.figures[key], [], []
    others = [arm for arm in proven if arm is not first]
    for arm in others:
        new = arm.figures[key]
        if new.high < old.low:
            verdicts.append("less")
        elif new.low > old.high:
            verdicts.append("more")
        else:
            verdicts.append("same")
        verb = {"less": "falls", "more": "rises", "same": "goes"}[verdicts[-1]]
        ratio = f", {new.value / old.value:.2f} times as much" if old.value > 0 else ""
        doubt = "; the intervals overlap, so this is no proven change" * (verdicts[-1] == "same")
        lines.append(
            f"The fairness discrepancy against the reference {verb} from {_led(old)} "
            f"to {_led(new)} in the {words.described(arm)}{ratio}{doubt}."
        )
    if verdicts == ["same"] * len(verdicts):
        return "No proven difference to the unweighted generator", "open", lines
    if "more" in verdicts and "less" not in verdicts:
        return "More of the bias than the unweighted generator", "bad", lines
    if len(verdicts) == 1:
        arm, which = others[0], "weighted generator"
        if arm.reweight == "none":
            which = "penalised generator" if words.penalised(arm) else f"generator {arm.name}"
        return f"The {which} repeats less of the bias", "good", lines
    count = verdicts.count("less")
    headline = f"{count} of {len(verdicts)} arms repeat less of the bias than the unweighted one"
    return headline, "good", lines


def _quality(arms: list[Arm]) -> list[str]:
    """One sentence on KID, in features that were not trained on the attribute."""
    for key in KIDS:
        having = [arm for arm in arms if key in arm.figures]
        if having:
            values = ", ".join(f"{_led(arm.figures[key])} ({arm.name})" for arm in having)
            features = key.split("/")[1]
            return [f"Distance to the reference images, KID in {features} features: {values}."]
    return []


def _without_labels(arms: list[Arm]) -> Answer:
    sentences = [
        "No attribute was measured, because this run had no labels. "
        "Nothing on this page says which groups the samples show."
    ]
    for arm in arms:
        for key, reference in arm.figures.items():
            biased = arm.figures.get(key.replace("/heldout_reference", "/heldout_biased"))
            if not key.endswith("/heldout_reference") or biased is None:
                continue
            which = f"The samples of the {words.described(arm)} are"
            to = f"held-out reference images (KID {_led(reference)})"
            other = f"held-out biased ones (KID {_led(biased)})"
            if reference.high < biased.low:
                sentences.append(f"{which} closer to {to} than to {other}.")
            elif reference.low > biased.high:
                sentences.append(f"{which} farther from {to} than from {other}.")
            else:
                sentences.append(f"{which} not proven to be closer to {to} than to {other}, or "
                                 "the other way round.")  # fmt: skip
    caveats = ["Intervals are 95 % and say nothing about other training seeds.",
               *_on_training(arms)]  # fmt: skip
    return Answer("No attribute was measured", "open", sentences[:1], sentences[1:], caveats)
