"""How figures, names and arms are written out."""

import math
import re
from collections.abc import Callable

from fairjax.config import named_arm
from fairjax.evaluate.figures import Figure
from fairjax.report.workdir import Arm, Run

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
    "inception_score": "Inception score",
    "memorisation": "Memorisation",
    "path_length": "Perceptual path length",
    "ratio_score": "Ratio network's score",
    "reference": "against the reference",
    "uniform": "against uniform",
    "heldout_reference": "to held-out reference images",
    "heldout_biased": "to held-out biased images",
}


# Around a text that leads to a row: characters for private use, which no template changes.
_START, _THEN, _END = "\ue000", "\ue001", "\ue002"
_LED = re.compile(f"{_START}([^{_START}]*?){_THEN}([^{_START}]*?){_END}")

AUDITED = "samples"  # the one arm of an audit of somebody's samples

# What an arm's penalty adds to the words for its kind.
_PENALTIES = {
    "marginals": ", with a penalty on its shares",
    "constraint": ", with a constraint on its shares",
    "adversary": ", with an adversary on its styles",
    "quality": ", with a min-max over its classes",
}


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


def led(text: str, name: str) -> str:
    """The text of a number that leads to the row of a figure: a link on the page (`linked` in
    `fairjax.report.pages`), the bare text elsewhere (`unled`)."""
    return f"{_START}{name}{_THEN}{text}{_END}" if name else text


def unled(text: str) -> str:
    """A sentence without what leads to rows."""
    return _LED.sub(r"\2", text)


def linked(text: str, link: Callable[[str, str], str]) -> str:
    """A sentence in which `link(name, text)` stands for each text that leads to a row."""
    return _LED.sub(lambda found: link(found[1], found[2]), text)


def plain(value: float) -> str:
    """A number without interval in three significant digits."""
    return number(Figure("", value, math.nan, math.nan, 0))


def of_psi(name: str) -> tuple[str, str]:
    """(psi, the rest of the name) of a figure of truncated samples; ("", name) of another."""
    head, _, rest = name.partition("/")
    return (head.removeprefix("psi"), rest) if head.startswith("psi") else ("", name)


def pretty(name: str, run: Run) -> str:
    """A figure's name for readers: class names for indices, words for path parts."""
    psi, name = of_psi(name)
    if psi:
        return f"{pretty(name, run)} · at psi {psi}"
    if name == "frechet/inception":  # of the weights of 2015-12-05 only, see evaluate/features.py
        return "FID"
    head, *rest = name.split("/")
    for i, part in enumerate(rest[1:], start=1):  # a class index behind the judge's name
        judge = run.judges.get(rest[i - 1])
        if judge is not None and part.isdigit() and int(part) < len(judge.classes):
            rest[i] = judge.classes[int(part)]
    names = {} if head == "ratio_score" else _NAMES  # its "reference" is the set that was scored
    words = [names.get(part, part.replace("_", " ")) for part in rest]
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
    if own := arm.settings.get("gan.own_from", ""):
        share = 100 * arm.settings["gan.own_share"]
        how += f", trained on samples of {named_arm(own)} ({share:g} %)"
    if (other := arm.settings.get("gan.second_d", "none")) != "none":
        of = "of the start" if other == "frozen" else "for the reference set"
        how += f", with a second discriminator {of}"
    condition = arm.settings.get("gan.condition")
    if tuple(condition or ()) == ("reference_set",):
        how += ", told which set an image is from"
    elif condition:
        how += f", trained with labels of {' and '.join(condition)}"
    how += _PENALTIES.get(arm.settings.get("gan.penalty", "none"), "")
    return how + " of ratio groups" * (penalised(arm) and by_ratio(arm))


def penalised(arm: Arm) -> bool:
    """Whether the arm was trained with a fairness penalty."""
    return arm.settings.get("gan.penalty", "none") != "none"


def by_ratio(arm: Arm) -> bool:
    """Whether a penalty of the arm counts groups of the ratios, for which no label is used."""
    return arm.settings.get("gan.penalty_groups", "attributes") == "ratio"


def described(arm: Arm) -> str:
    """`unweighted arm (equi)`, `arm weighted by resampling (main)`."""
    kind = kind_of_arm(arm)
    if kind == arm.name:
        return AUDITED if arm.name == AUDITED else f"arm {arm.name}"
    return f"{kind} arm ({arm.name})" if kind == "unweighted" else f"arm {kind} ({arm.name})"


def baseline(run: Run) -> Arm | None:
    """The unweighted arm on both sets, without group DRO, labels, penalty and samples of another
    arm; else the one named "equi"."""
    plain_arms = [arm for arm in run.arms if arm.reweight == "none" and not arm.dro
                  and arm.settings.get("gan.train_on", "union") == "union"
                  and arm.settings.get("gan.second_d", "none") == "none"
                  and not arm.settings.get("gan.init_from")
                  and not arm.settings.get("gan.own_from")
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


def _clean(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text
