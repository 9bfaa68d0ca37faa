"""What a model card says beside the figures: threats, limits, and what was not measured."""

import math

from fairjax.config import named_arm
from fairjax.evaluate.figures import main_figure
from fairjax.report import words
from fairjax.report.workdir import Arm, Run, insufficient


def trained_with_labels(run: Run) -> list[str]:
    """Names of the arms whose training saw labels of attributes, by itself, through true ratios, or
    in the networks or samples of such an arm."""
    found = {arm.name for arm in run.arms if _labelled(arm)}
    if run.config.get("weights", {}).get("true_ratio", False):
        found |= {arm.name for arm in run.arms if _uses_ratios(arm)}
    for _ in run.arms:  # as often as one can be made of another
        found |= {arm.name for arm in run.arms if found & {
            named_arm(str(arm.settings.get(f"gan.{key}") or ""))
            for key in ("init_from", "second_from", "own_from")
        }}  # fmt: skip
    return [arm.name for arm in run.arms if arm.name in found]


def _labelled(arm: Arm) -> bool:
    return (
        (words.penalised(arm) and not words.by_ratio(arm))
        or (arm.settings.get("gan.condition") or ["reference_set"])[0] != "reference_set"
        or _robust_over(arm, "attributes")
    )


def _robust_over(arm: Arm, groups: str) -> bool:
    """Whether group DRO is over these groups; without it they are only logged."""
    return bool(arm.settings.get("gan.dro")) and arm.settings.get("gan.groups") == groups


def _uses_ratios(arm: Arm) -> bool:
    return (
        arm.reweight != "none"
        or (words.penalised(arm) and words.by_ratio(arm))
        or _robust_over(arm, "ratio_bins")
        or arm.settings.get("gan.draws") == "stratified"
    )


def threats(run: Run) -> list[str]:
    """What the generators do to the two threats that they can be measured by: before, after."""
    name = main_figure(run.main_set)
    union = next(
        (
            link["value"]
            for link in run.weights.get("chain", [])
            if link.get("attribute") == run.main_set and "unweighted" in link["name"]
        ),
        None,
    )
    first, said = words.baseline(run), []
    for arm in run.arms:
        far = arm.figures.get(name)
        if far is not None and not insufficient(run, arm, run.main_set):
            before = f"{union:.3f} in the training images" if union is not None else ""
            old = first.figures.get(name) if first is not None and first is not arm else None
            if old is not None and first is not None:
                before += f"{' and ' if before else ''}{words.number(old)} in {first.name}"
            before = f"before, {before}; " if before else ""
            said.append(f"The bias of the data is repeated or amplified (discrepancy against the "
                        f"reference): {before}in {arm.name}, {words.number(far)}.")  # fmt: skip
        copied = arm.figures.get("memorisation/random_conv")
        if copied is not None and math.isfinite(copied.value):
            note = f" ({copied.note})" if copied.note else ""
            said.append(
                f"Training images are copied: {words.percent(copied)} of the samples of "
                f"{arm.name} are closer to one than 95 % of new images are{note}."
            )
    return said


def limits_of_use(run: Run) -> list[str]:
    """How the figures were made, and for what they therefore do not hold."""
    kinds = {part for arm in run.arms for key in arm.figures for part in key.split("/")[1:2]
             if key.split("/")[0] in ("kid", "frechet")}  # fmt: skip
    said = []
    if run.judges:
        said.append("Groups are counted by a judge (or a table of labels), not by asking anybody; "
                    "corrected figures undo the errors that it makes on real test images, and it "
                    "may err differently on generated ones.")  # fmt: skip
    if kinds:
        fid = "" if "inception" in kinds else " None of them is an FID."
        said.append(f"Distances between images are taken in the features of "
                    f"{' and '.join(sorted(kinds))}; they say how near the samples are to the "
                    f"reference images, not how real they look to a person.{fid}")  # fmt: skip
    if any(kind.startswith("judge_") for kind in kinds):
        said.append("The features of a judge were trained on the attribute that it judges: they "
                    "see best what the groups differ in, and little else.")  # fmt: skip
    said.append("Intervals are 95 % and hold for these trained networks. Another seed trains other "
                "ones: compare several with launch/compare.py.")  # fmt: skip
    return said


def unmeasured(run: Run) -> list[str]:
    """Attributes that have labels but no judge, and what the page has no figure for."""
    known = run.manifest.get("attribute_names") or []
    judged = {name for label in run.judges for name in label.split("+")}
    left = [f"proportions of {name}" for name in known if name not in judged]
    have = {key.split("/")[0] for arm in run.arms for key in arm.figures}
    for head, said in (("kid", "image quality"), ("memorisation", "copies of training images"),
                       ("path_length", "smoothness")):  # fmt: skip
        if head not in have:
            left.append(said)
    return left + ["what people think of the samples", *(() if run.joules else ("energy",))]
