"""The one table behind the avatars: attributes, their values, and the DiceBear variants of each."""

from typing import NamedTuple


class Value(NamedTuple):
    """One value of an attribute: its name, its share, and the DiceBear choices that show it."""

    name: str
    share: float
    choices: dict[str, tuple]


# THE table. Hats, buns, shaved heads, bobs and other cuts between short and long are left out.
ATTRIBUTES: dict[str, tuple[Value, ...]] = {
    "long_hair": (
        Value(
            "short hair",
            0.5,
            {
                "topVariant": (
                    "dreads01",
                    "frizzle",
                    "shortCurly",
                    "shortFlat",
                    "shortRound",
                    "shortWaved",
                    "theCaesar",
                    "theCaesarAndSidePart",
                )
            },
        ),
        Value(
            "long hair",
            0.5,
            {
                "topVariant": (
                    "bigHair",
                    "curvy",
                    "dreads",
                    "straight01",
                    "straight02",
                    "straightAndStrand",
                )
            },
        ),
    ),
    "skin": (
        Value("pale skin", 0.2, {"skinColor": ("#ffdbb4",)}),
        Value("light skin", 0.2, {"skinColor": ("#edb98a",)}),
        Value("tan skin", 0.2, {"skinColor": ("#d08b5b",)}),
        Value("brown skin", 0.2, {"skinColor": ("#ae5d29",)}),
        Value("dark skin", 0.2, {"skinColor": ("#614335",)}),
    ),
    "beard": (
        Value("no beard", 0.7, {"facialHairProbability": (0,)}),
        Value(
            "beard",
            0.3,
            {
                "facialHairProbability": (100,),
                "facialHairVariant": ("beardLight", "beardMajestic", "beardMedium"),
            },
        ),
    ),
    "glasses": (
        Value("no glasses", 0.7, {"accessoriesProbability": (0,)}),
        Value(
            "glasses",
            0.3,
            {
                "accessoriesProbability": (100,),
                "accessoriesVariant": (
                    "prescription01",
                    "prescription02",
                    "round",
                    "sunglasses",
                    "wayfarers",
                ),
            },
        ),
    ),
    "background": (
        Value("sky background", 0.25, {"backgroundColor": ("#aee0f5",)}),
        Value("mint background", 0.25, {"backgroundColor": ("#a8e6c1",)}),
        Value("lilac background", 0.25, {"backgroundColor": ("#cdb4f0",)}),
        Value("slate background", 0.25, {"backgroundColor": ("#6b7a90",)}),
    ),
}


class Merged(NamedTuple):
    """An attribute that sums up another: that one, names of its own values, and which of these
    each value of the other belongs to."""

    of: str
    names: tuple[str, ...]
    value: tuple[int, ...]


# Attributes that configs may name like those of the table.
MERGED: dict[str, Merged] = {
    "darker_skin": Merged("skin", ("lighter skin", "darker skin"), (0, 0, 0, 1, 1)),
}

# What varies freely in every picture.
FREE: dict[str, tuple] = {
    "hairColor": ("#2c1b18", "#724133", "#d6b370", "#c93305", "#e8e1e1"),
    "clothesColor": ("#262e33", "#65c9ff", "#25557c", "#ff5c5c", "#ffffff", "#a7ffc4", "#ff488e"),
    "accessoriesColor": ("#262e33", "#25557c"),
    "clothesVariant": (
        "blazerAndShirt",
        "blazerAndSweater",
        "collarAndSweater",
        "hoodie",
        "overall",
        "shirtCrewNeck",
        "shirtScoopNeck",
        "shirtVNeck",
    ),
    "eyesVariant": ("default", "happy", "side", "squint", "surprised", "wink"),
    "eyebrowsVariant": (
        "default",
        "defaultNatural",
        "flatNatural",
        "raisedExcited",
        "raisedExcitedNatural",
        "upDown",
    ),
    "mouthVariant": ("default", "serious", "smile", "twinkle"),
}
HAIR_CONTRAST = 70.0  # least RGB distance from hair to skin, else a beard cannot be seen
VIEW = (36, 8, 208, 208)  # the part of the 280 x 280 canvas that the head fills: x, y, w, h
