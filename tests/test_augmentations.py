import pytest
from ml_collections import ConfigDict

from fairjax.augmentations import CATEGORIES, multipliers, of_colour, policies
from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.models import augment, diffaugment
from fairjax.validation import cautions, validate


def test_names_stand_for_their_transforms():
    assert list(multipliers("bg")) == [*CATEGORIES["blit"], *CATEGORIES["geom"]]
    assert set(multipliers("bgcfnc")) == {n for names in CATEGORIES.values() for n in names}
    assert multipliers("hue*0.5, blit") == {"xflip": 1, "rot90": 1, "xint": 1, "hue": 0.5}
    assert multipliers("color*0.5,hue")["hue"] == 1
    assert multipliers("color*0.5,hue")["contrast"] == 0.5
    assert list(multipliers("hue,xflip")) == ["xflip", "hue"]  # in the order of application
    assert policies("cutout, color") == ("color", "cutout")


def test_every_name_has_its_transform():
    assert {*augment._DRAWS, "rotate"} == set(multipliers("bgcfnc"))
    assert set(diffaugment.TRANSFORMS) == set(policies("color,translation,cutout"))


@pytest.mark.parametrize("text", ["", " , ", "bcg", "hue*0", "hue*1.1", "hue*x", "hue*", "*0.5"])
def test_unknown_categories_are_refused(text):
    with pytest.raises(InputError, match=r"gan\.augment_categories.*is no augmentation.*xflip"):
        multipliers(text)


@pytest.mark.parametrize("text", ["", "blur", "color*0.5"])
def test_unknown_policies_are_refused(text):
    with pytest.raises(InputError, match=r"gan\.diffaugment_policy.*color, translation, cutout"):
        policies(text)


def test_p_must_leave_some_images_as_they_are():
    config = defaults()
    config.arms = ConfigDict({
        "off": {"augment": "fixed"}, "full": {"augment": "fixed", "augment_p": 1.0},
        "high": {"augment": "ada", "augment_p": 0.9}, "good": {"augment": "ada"},
        "half": {"augment": "fixed", "augment_p": 0.5},
    })  # fmt: skip
    with pytest.raises(InputError) as error:
        validate(config)
    text = str(error.value)
    assert "3 problem(s)" in text
    assert "augment_p (=1.0) must be above 0 and below 1" in text
    assert "augment_p (=0.9) must be from 0 to ada_p_max" in text


def test_attributes_of_colour():
    names = ("skin", "long_hair", "Black_Hair", "Blond_Hair", "Pale_Skin", "Male", "skinTone",
             "Wearing_Hat", "Wearing_Lipstick", "hair_color", "blackboard", "Smiling")  # fmt: skip
    found = ["skin", "Black_Hair", "Blond_Hair", "Pale_Skin", "skinTone", "Wearing_Lipstick",
             "hair_color"]  # fmt: skip
    assert of_colour(names) == found


@pytest.mark.parametrize(
    ("arm", "attributes", "warned"),
    [
        ({"augment": "ada"}, ("skin",), False),  # the default categories leave colours alone
        ({"augment": "ada", "augment_categories": "bgc"}, ("skin",), True),
        ({"augment": "fixed", "augment_p": 0.1, "augment_categories": "hue"}, ("skin",), True),
        ({"augment": "ada", "augment_categories": "bgc"}, ("beard",), False),
        ({"augment_categories": "bgc"}, ("skin",), False),
        ({"augment": "diffaugment"}, ("skin",), False),
        ({"augment": "diffaugment", "diffaugment_policy": "color"}, ("skin",), True),
    ],
)
def test_augmented_colours_are_warned_of_where_attributes_depend_on_them(arm, attributes, warned):
    config = defaults()
    config.arms = ConfigDict({"plain": {}, "mine": arm})
    for key in ("group", "judge"):
        config.data.group_attributes = attributes if key == "group" else ("long_hair",)
        config.judge.attribute_sets = (attributes if key == "judge" else ("long_hair",),)
        validate(config)
        found = cautions(config)
        assert len(found) == warned
        assert not warned or ("arm mine" in found[0] and attributes[0] in found[0])
