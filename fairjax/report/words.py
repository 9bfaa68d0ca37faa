"""The report's answer in plain words, and how figures and names are written out."""

import math
from typing import NamedTuple

from fairjax.config import named_arm
from fairjax.evaluate.figures import Figure
from fairjax.report.collapse import collapsed
from fairjax.report.workdir import Arm, Run, insufficient

_NAMES = {
    "fairness_discrepancy": "Fairness discrepancy",
    "share": "Share",
    "reference_share": "Share in the reference set",
    "smallest_share": "Smallest share",
    "kl": "KL divergence",
    "mean_discrepancy": "Fairness discrepancy, mean over sets",
    "outside_simplex": "Correction left the simplex",
    "kid": "KID",
    "frechet": "Fréchet distance",
    "memorisation": "Memorisation",
    "ratio_score": "Ratio network's score",
    "reference": "against the reference",
    "uniform": "against uniform",
    "heldout_reference": "to held-out reference images",
    "heldout_biased": "to held-out biased images",
}


AUDITED = "samples"  # the one arm of an audit of somebody's samples

# What an arm's penalty adds to the words for its kind.
_PENALTIES = {
    "marginals": ", with a penalty on its shares",
    "constraint": ", with a constraint on its shares",
    "adversary": ", with an adversary on its styles",
}


class Answer(NamedTuple):
    """What the top of the page says.

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


def percent(figure: Figure) -> str:
    """`86 % [84, 88]`; one decimal below 1 % from either end, or where the interval is narrow."""
    if not math.isfinite(figure.value):
        return "insufficient evidence"
    width = figure.high - figure.low
    digits = 1 if width < 0.02 else 0
    text = f"{100 * figure.value:.{digits}f} %"
    if math.isfinite(width):
        text += f" [{100 * figure.low:.{digits}f}, {100 * figure.high:.{digits}f}]"
    return text


def number(figure: Figure) -> str:
    """`0.123 [0.101, 0.145]`, with as many decimals as the interval (or the value) deserves."""
    if not math.isfinite(figure.value):
        return "insufficient evidence"
    width = figure.high - figure.low
    ruler = width if math.isfinite(width) and width > 0 else abs(figure.value) / 10
    digits = min(6, max(0, 1 - math.floor(math.log10(ruler)))) if ruler > 0 else 0
    text = f"{_clean(figure.value, digits)}"
    if math.isfinite(width) and width > 0:
        text += f" [{_clean(figure.low, digits)}, {_clean(figure.high, digits)}]"
    return text


def plain(value: float) -> str:
    """A number without interval in three significant digits."""
    return number(Figure("", value, math.nan, math.nan, 0))


def pretty(name: str, run: Run) -> str:
    """A figure's name for readers: class names for indices, words for path parts."""
    head, *rest = name.split("/")
    for i, part in enumerate(rest[1:], start=1):  # a class index behind the judge's name
        judge = run.judges.get(rest[i - 1])
        if judge is not None and part.isdigit() and int(part) < len(judge.classes):
            rest[i] = judge.classes[int(part)]
    words = [_NAMES.get(part, part.replace("_", " ")) for part in rest]
    return " · ".join([_NAMES.get(head, head.replace("_", " ").capitalize()), *words])


def kind_of_arm(arm: Arm) -> str:
    """What an arm does, e.g. "weighted by resampling"; its name where the config does not say."""
    how = {
        "none": "unweighted",
        "loss": "weighted in the loss",
        "resample": "weighted by resampling",
        "hybrid": "weighted by resampling and in the loss",
    }.get(arm.reweight, "")
    part = arm.settings.get("gan.train_on", "union")
    if part != "union":
        how = f"{how}, on the {part} set only" if how else f"on the {part} set only"
    if arm.dro:
        how = f"{how}, with group DRO" if how else "group DRO"
    how = how or arm.name
    start = arm.settings.get("gan.init_from", "")
    if start:
        how += f", started from {f'arm {named}' if (named := named_arm(start)) else start}"
    if (other := arm.settings.get("gan.second_d", "none")) != "none":
        of = "of the start" if other == "frozen" else "for the reference set"
        how += f", with a second discriminator {of}"
    condition = arm.settings.get("gan.condition")
    if tuple(condition or ()) == ("reference_set",):
        how += ", told which set an image is from"
    elif condition:
        how += f", trained with labels of {' and '.join(condition)}"
    return how + _PENALTIES.get(arm.settings.get("gan.penalty", "none"), "")


def penalised(arm: Arm) -> bool:
    """Whether the arm was trained with a fairness penalty."""
    return arm.settings.get("gan.penalty", "none") != "none"


def _on_training(arms: list[Arm]) -> list[str]:
    """What has to be said of how some of the arms were trained."""
    said = []
    if any(arm.dro for arm in arms):
        said.append("The target of a DRO run is q, not the reference.")
    if names := [arm.name for arm in arms if penalised(arm)]:
        said.append(
            f"Labels were used in the training of {', '.join(names)}, by a penalty that may have "
            "gamed its own judge; the figures come from another judge."
        )
    return said


def described(arm: Arm) -> str:
    """`unweighted arm (equi)`, `arm weighted by resampling (main)`."""
    kind = kind_of_arm(arm)
    if kind == arm.name:
        return arm.name if arm.name == AUDITED else f"arm {arm.name}"
    return f"{kind} arm ({arm.name})" if kind == "unweighted" else f"arm {kind} ({arm.name})"


def baseline(run: Run) -> Arm | None:
    """The unweighted arm on both sets, without group DRO, labels and penalty; else the one named
    "equi"."""
    plain_arms = [arm for arm in run.arms if arm.reweight == "none" and not arm.dro
                  and arm.settings.get("gan.train_on", "union") == "union"
                  and arm.settings.get("gan.second_d", "none") == "none"
                  and not arm.settings.get("gan.init_from")
                  and not arm.settings.get("gan.condition") and not penalised(arm)]  # fmt: skip
    named = [arm for arm in run.arms if arm.name == "equi"]
    return next(iter([*plain_arms, *named]), None)


def shown_class(run: Run) -> int:
    """The class that the biased set has most of; 0 where that is not known."""
    judge = run.judges.get(run.main_set)
    roles = run.manifest.get("roles") or {}
    groups = ((roles.get("train_biased") or {}).get("groups") or {}).get(run.main_set) or {}
    if judge is None or not groups:
        return 0
    counts = [groups.get(name, 0) for name in judge.classes]
    return counts.index(max(counts))


def share_of(arm: Arm, attribute_set: str, index: int, prefix: str = "share") -> Figure | None:
    """The corrected hard share of a class, else the raw one, else None."""
    for form in ("corrected", "raw"):
        figure = arm.figures.get(f"{prefix}/{attribute_set}/{index}/hard/{form}")
        if figure is not None and math.isfinite(figure.value):
            return figure
    return None


def role_share(run: Run, role: str, name: str) -> float | None:
    """Share of the images of a role that belong to the named class of the main set."""
    groups = ((run.manifest.get("roles") or {}).get(role) or {}).get("groups") or {}
    counts = groups.get(run.main_set) or {}
    total = sum(counts.values())
    return counts.get(name, 0) / total if total else None


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
    index = shown_class(run)
    name = judge.classes[index] if index < len(judge.classes) else f"class {index}"
    sentences = []
    biased, reference = (role_share(run, f"train_{part}", name) for part in ("biased", "reference"))
    if biased is not None and reference is not None:
        sentences.append(
            f"Of the biased training images {100 * biased:.0f} % show {name}, "
            f"of the reference images {100 * reference:.0f} %."
        )
    reasons = {arm.name: insufficient(run, arm, run.main_set) for arm in evaluated}
    proven = [arm for arm in evaluated if not reasons[arm.name]]
    for arm in evaluated:
        if reasons[arm.name]:
            sentences.append(f"The {described(arm)}: insufficient evidence ({reasons[arm.name]}).")
        elif (share := share_of(arm, run.main_set, index)) is not None:
            verb = "show" if arm.name == AUDITED else "shows"
            sentences.append(f"The {described(arm)} {verb} {percent(share)} {name}.")
    evidence: list[str] = []
    headline, tone = "Insufficient evidence", "open"
    if proven:
        headline, tone, evidence = _compared(run, proven, name, index)
    evidence += _quality(evaluated)
    covered = "the drawing of the samples and the judge's errors"
    if judge.confusion is None:
        covered = "the drawing of the samples, whose labels are taken as true"
    caveats = [
        f"Intervals are 95 % and cover {covered}; they say nothing about other training seeds."
    ]
    return Answer(headline, tone, sentences, evidence, caveats + _on_training(evaluated))


def _compared(run: Run, proven: list[Arm], name: str, index: int) -> tuple[str, str, list[str]]:
    """Headline, tone and sentences from the discrepancies of the arms with enough evidence."""
    key = f"fairness_discrepancy/{run.main_set}/hard/corrected/reference"
    first = baseline(run)
    if first is None or first not in proven or len(proven) == 1:
        arm = proven[0]
        share = share_of(arm, run.main_set, index)
        text = f"{percent(share)} {name}" if share is not None else number(arm.figures[key])
        lines = [
            f"The fairness discrepancy of the {described(a)} against the reference is "
            f"{number(a.figures[key])}."
            for a in proven
        ]
        return f"The generator shows {text}", "open", lines
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
            f"The fairness discrepancy against the reference {verb} from {number(old)} "
            f"to {number(new)} in the {described(arm)}{ratio}{doubt}."
        )
    if verdicts == ["same"] * len(verdicts):
        return "No proven difference to the unweighted generator", "open", lines
    if "more" in verdicts and "less" not in verdicts:
        return "More of the bias than the unweighted generator", "bad", lines
    if len(verdicts) == 1:
        which = "penalised" if penalised(others[0]) else "weighted"
        return f"The {which} generator repeats less of the bias", "good", lines
    count = verdicts.count("less")
    headline = f"{count} of {len(verdicts)} arms repeat less of the bias than the unweighted one"
    return headline, "good", lines


def _quality(arms: list[Arm]) -> list[str]:
    """One sentence on KID, in features that were not trained on the attribute."""
    for key in ("kid/efficientnet_lite0", "kid/random_conv"):
        having = [arm for arm in arms if key in arm.figures]
        if having:
            values = ", ".join(f"{number(arm.figures[key])} ({arm.name})" for arm in having)
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
            closer = "as far from"
            if reference.high < biased.low:
                closer = "closer to"
            elif reference.low > biased.high:
                closer = "farther from"
            sentences.append(
                f"The samples of the {described(arm)} are {closer} held-out reference images "
                f"(KID {number(reference)}) {'as' if closer.startswith('as') else 'than'} "
                f"{'from' if closer != 'closer to' else 'to'} held-out biased ones "
                f"(KID {number(biased)})."
            )
    caveats = ["Intervals are 95 % and say nothing about other training seeds.",
               *_on_training(arms)]  # fmt: skip
    return Answer("No attribute was measured", "open", sentences[:1], sentences[1:], caveats)


def _clean(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text
