"""The names of the discriminator's augmentations, and when their colour changes are a risk.

Names only: the configuration is checked with them before any library is loaded. The transforms
themselves are in `fairjax.models.augment` and `fairjax.models.diffaugment`.
"""

import re
from collections.abc import Iterable
from typing import Any

from fairjax.errors import InputError

# Karras et al., 2020, "Training generative adversarial networks with limited data", appendix B.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "blit": ("xflip", "rot90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("band1", "band2", "band3", "band4"),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
TRANSFORMS = tuple(name for names in CATEGORIES.values() for name in names)
UNIONS = {
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}
POLICIES = ("color", "translation", "cutout")  # Zhao et al., 2020
KINDS = ("none", "ada", "fixed", "diffaugment")

# Parts of attribute names that speak of a colour, as in Black_Hair, Pale_Skin, skin_tone.
_COLOURS = set(
    "skin tone complexion hue colour color coloured colored black blond blonde brown gray grey "
    "white red auburn pale rosy tan light dark lipstick makeup race ethnicity".split()
)


def multipliers(text: str) -> dict[str, float]:
    """ "bg,hue*0.5" -> {transform: multiplier of p}, in the order in which they are applied.

    Args:
      text: unions, categories and single transforms, separated by commas, each with an optional
        factor; a later one replaces an earlier one.

    Raises:
      InputError: an unknown name, a factor outside (0, 1], or nothing at all.
    """
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, star, factor = part.partition("*")
        members = [c for u in UNIONS.get(name, (name,)) for c in CATEGORIES.get(u, (u,))]
        try:
            value = float(factor) if star else 1.0
        except ValueError:
            value = 0.0
        if any(member not in TRANSFORMS for member in members) or not 0 < value <= 1:
            raise _refused(part, (*UNIONS, *CATEGORIES, *TRANSFORMS), "gan.augment_categories")
        found |= dict.fromkeys(members, value)
    if not found:
        raise _refused(text, (*UNIONS, *CATEGORIES, *TRANSFORMS), "gan.augment_categories")
    return {name: found[name] for name in TRANSFORMS if name in found}


def policies(text: str) -> tuple[str, ...]:
    """ "translation,cutout" -> the names, in the order in which they are applied.

    Raises:
      InputError: an unknown name, or nothing at all.
    """
    names = [name for name in (part.strip() for part in text.split(",")) if name]
    for name in names or [text]:
        if name not in POLICIES:
            raise _refused(name, POLICIES, "gan.diffaugment_policy")
    return tuple(name for name in POLICIES if name in names)


def _refused(found: str, names: Iterable[str], where: str) -> InputError:
    known = ", ".join(dict.fromkeys(names))
    return InputError(f"'{found}' is no augmentation", where, f"Choose from {known}; a factor "
                      "in (0, 1] may follow, as in color*0.5"
                      if where.endswith("categories") else f"Choose from {known}")  # fmt: skip


def changes_colour(gan: Any) -> bool:
    """Whether the augmentation of a `gan` config tree changes colours."""
    if gan.augment == "diffaugment":
        return "color" in policies(gan.diffaugment_policy)
    if gan.augment in ("ada", "fixed"):
        return any(name in CATEGORIES["color"] for name in multipliers(gan.augment_categories))
    return False


def of_colour(names: Iterable[str]) -> list[str]:
    """The attributes among `names` whose name speaks of a colour."""
    parts = {name: re.findall("[A-Z]?[a-z]+|[A-Z]+", name) for name in dict.fromkeys(names)}
    return [name for name, words in parts.items() if _COLOURS & {word.lower() for word in words}]
