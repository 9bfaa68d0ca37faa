"""The model card of an audit of predictions: threats, a checklist filled from figures, limits."""

import math
from pathlib import Path

from fairjax.evaluate.figures import Figure
from fairjax.evaluate.stress import STEADY
from fairjax.report import words
from fairjax.report.audited_predictions import Named, Seen, answer
from fairjax.report.pages import write_pages

ENOUGH = 50  # positives and negatives of a group, below which its rates say little


def build(folder: Path, title: str, seen: Seen) -> None:
    """Writes model_card.md."""
    context = {
        "title": title,
        "answer": answer(seen.table, seen.sets, seen.named),
        "threats": threats(seen),
        "checks": checklist(seen),
        "notes": seen.checks.get("notes", []),
        "sets": seen.sets,
        "command": (folder / "command.txt").read_text("utf-8").strip(),
    }
    write_pages(folder, context, {"audited_card.md.j2": "model_card.md"})


def threats(seen: Seen) -> list[str]:
    """What the decisions do to those whom they hit, as given and in each other form."""
    said = []
    for groups in seen.sets:
        for figure, threat in (
            ("equalized_odds_difference", "Errors hit one group more than another (largest "
             "difference in true or false positive rates)"),
            ("demographic_parity_difference", "One group is chosen more often"),
            ("bias_amplification", "Decisions tell groups apart more than labels do (directional "
             "bias amplification, above 0)"),
            ("worst_group_accuracy", "A group is served badly (worst accuracy)"),
        ):  # fmt: skip
            name = f"{figure}/{groups.label}"
            forms = [("as given", name), *((word, f"{word}/{name}") for word in seen.others)]
            found = [f"{form} {_shown(seen.named, of)}" for form, of in forms]
            said.append(f"{threat}, by {groups.label}: {'; '.join(found)}.")
    return said


def checklist(seen: Seen) -> list[tuple[bool, str]]:
    """(whether the figures say yes, a sentence with them)."""
    named, constant = seen.named, seen.named["selection_rate/all/all"].value in (0, 1)
    found = [(not constant, "The classifier decides differently for different examples.")]
    for groups in seen.sets:
        sizes = [(named[f"{rate}/{groups.label}/{group}"].n, kind, group) for group in groups.names
                 for rate, kind in (("true_positive_rate", "positives"),
                                    ("false_positive_rate", "negatives"))]  # fmt: skip
        least = min(sizes)
        found.append((least[0] >= ENOUGH, f"Every group of {groups.label} has at least {ENOUGH} "
                      f"positives and negatives (fewest: {least[0]} {least[1]} of "
                      f"{least[2]})."))  # fmt: skip
        gap = named[f"equalized_odds_difference/{groups.label}"]
        known = math.isfinite(gap.value)
        found.append((known and gap.low <= 0, "No difference in error rates between the groups of "
                      f"{groups.label} is proven ({_shown(named, gap.name)})."))  # fmt: skip
    limits = seen.checks.get("limits", ())
    passed = sum(entry["verdict"] == "pass" for entry in limits)
    kept = f"All limits are kept ({passed} of {len(limits)})."
    never = "Limits of what is acceptable were set (--limits)."
    found.append((bool(limits) and passed == len(limits), kept if limits else never))
    compared, moved = seen.checks.get("compared", 0), len(seen.checks.get("moved", ()))
    since = f"Nothing moved since the baseline ({moved} of {compared} figures did)."
    never = "It was compared with an earlier audit (--baseline)."
    found.append((bool(compared) and not moved, since if compared else never))
    stressed = bool(seen.stressed) or any(name.startswith(f"{STEADY[0]}/") for name in named)
    found.append((stressed, "It was put under stress (--stress)."))
    return found


def _shown(named: Named, name: str) -> str:
    figure: Figure = named[name]
    amplified = name.split("/")[-2] == "bias_amplification"
    return words.number(figure) if amplified else words.percent(figure)
