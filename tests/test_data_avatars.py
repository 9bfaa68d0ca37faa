import numpy as np
import pytest
from data_config import config

from fairjax.data import avatar_table, avatars, cache, pool
from fairjax.data.prepare import load, prepare
from fairjax.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


def run(tmp_path, **settings):
    return prepare(config(**settings), tmp_path / "data", lambda line: None)


def test_group_counts_and_roles_are_exact(tmp_path):
    data = run(tmp_path)
    counts = {
        r: np.bincount(data.classes(("long_hair",), p)).tolist() for r, p in data.roles.items()
    }
    assert counts == {
        "train_biased": [36, 4],
        "train_reference": [10, 10],
        "ratio_test": [5 + 3, 1 + 3],
        "judge_fit": [8, 8],
        "judge_test": [6, 6],
        "metric_reference": [5, 5],
    }
    assert data.class_names(("long_hair",)) == ("short hair", "long hair")
    assert data.manifest["true_ratio"]["ratio"] == pytest.approx([0.5 / 0.9, 5.0])
    assert data.domain[data.training].tolist() == [0] * 40 + [1] * 20
    assert data.domain[data.roles["ratio_test"]].tolist() == [0] * 6 + [1] * 6
    assert set(data.domain[data.roles["judge_fit"]]) == {-1}


def test_no_picture_occurs_twice(tmp_path):
    data = run(tmp_path, n_biased=300, resolution=8)
    positions = np.concatenate(list(data.roles.values()))
    assert len(set(positions.tolist())) == len(positions) == len(data.images)
    assert len(set(cache.pixel_hashes(data.images))) == len(data.images)
    assert len(set(data.ids)) == len(data.ids)


def test_collisions_are_drawn_anew(tmp_path, monkeypatch):
    # With one choice for everything that is free, pictures must collide at first.
    one = {name: choices[:1] for name, choices in avatar_table.FREE.items()}
    monkeypatch.setattr(avatars, "FREE", {**one, "hairColor": avatar_table.FREE["hairColor"]})
    data = run(tmp_path, n_biased=60)
    assert len(set(cache.pixel_hashes(data.images))) == len(data.images)
    assert any(not i.endswith("/0") for i in data.ids)


def test_too_few_different_pictures_are_refused(tmp_path, monkeypatch):
    one = {name: choices[:1] for name, choices in avatar_table.FREE.items()}
    monkeypatch.setattr(avatars, "FREE", one)
    monkeypatch.setattr(avatars, "ATTEMPTS", 1)
    with pytest.raises(InputError, match="equal to others"):
        run(tmp_path, n_biased=200, resolution=8)


def test_seed_decides_everything(tmp_path):
    first = run(tmp_path)
    images, key = np.array(first.images), first.manifest["cache"]["key"]
    (cache.root() / key / "images.u8").unlink()
    again = run(tmp_path)
    np.testing.assert_array_equal(again.images, images)
    assert again.manifest == first.manifest
    assert not np.array_equal(run(tmp_path, seed=1).images, images)


def test_number_of_processes_changes_nothing():
    items = [((i % 2, i % 5, i % 2, 0, i % 4), (0, 0, i, 0)) for i in range(130)]
    made = []
    for workers in (1, 2):
        images = np.zeros((130, 16, 16, 3), np.uint8)
        pool.fill(images, range(130), items, avatars._render, (16, 3), print, "drawing", workers)
        made.append(images)
    np.testing.assert_array_equal(*made)
    assert made[0].any(axis=(1, 2, 3)).all()


def test_joint_groups_are_exact(tmp_path):
    joint = run(
        tmp_path,
        group_attributes=("long_hair", "beard"),
        biased_proportions=(0.4, 0.3, 0.2, 0.1),
        perc=1.0,
    )
    groups = ("long_hair", "beard")
    for role, counts in (("train_biased", [16, 12, 8, 4]), ("train_reference", [10] * 4)):
        assert np.bincount(joint.classes(groups, joint.roles[role])).tolist() == counts
    assert joint.class_names(groups)[1] == "short hair, beard"
    assert joint.manifest["roles"]["train_biased"]["groups"]["long_hair+beard"] == {
        "short hair, no beard": 16,
        "short hair, beard": 12,
        "long hair, no beard": 8,
        "long hair, beard": 4,
    }


def test_other_attributes_do_not_depend_on_the_group():
    rng = np.random.default_rng(0)
    values = avatars._values(20_000, ("long_hair",), (0.9, 0.1), rng)
    names = list(avatar_table.ATTRIBUTES)
    for name in names[1:]:
        shares = [v.share for v in avatar_table.ATTRIBUTES[name]]
        for group, n in ((0, 18_000), (1, 2_000)):
            column = values[values[:, 0] == group][:, names.index(name)]
            found = np.bincount(column, minlength=len(shares)) / n
            np.testing.assert_allclose(found, shares, atol=4.5 * np.sqrt(0.25 / n))


def test_judge_images_are_even_over_its_attributes(tmp_path):
    data = run(tmp_path, sets=(("long_hair",), ("skin",)), n_judge_fit=40)
    k = data.classes(("long_hair", "skin"), data.roles["judge_fit"])
    assert np.bincount(k, minlength=10).tolist() == [4] * 10
    assert set(data.manifest["roles"]["judge_fit"]["groups"]) == {"long_hair", "skin"}


def test_a_summary_of_an_attribute_is_drawn_like_one(tmp_path):
    """Exact counts of `darker_skin`, within each value the tones by their shares, and no other
    picture where it is only counted."""
    sets = (("long_hair", "darker_skin"),)
    data = run(tmp_path / "a", group_attributes=("darker_skin",), biased_proportions=(0.9, 0.1),
               sets=sets, n_biased=400, n_judge_fit=40)  # fmt: skip
    train = data.roles["train_biased"]
    darker, skin = (data.classes((name,), train) for name in ("darker_skin", "skin"))
    assert np.bincount(darker).tolist() == [360, 40]
    np.testing.assert_array_equal(darker, skin >= 3)
    tones = np.bincount(skin, minlength=5)
    assert abs(tones[:3] - 120).max() < 4.5 * np.sqrt(360 * 2 / 9)
    assert abs(tones[3:] - 20).max() < 4.5 * np.sqrt(40 / 4)
    judged = data.classes(sets[0], data.roles["judge_fit"])
    assert np.bincount(judged).tolist() == [10] * 4
    assert data.class_names(("darker_skin",)) == ("lighter skin", "darker skin")
    ratio = data.manifest["true_ratio"]
    np.testing.assert_allclose(ratio["ratio"], [0.5 / 0.9, 0.5 / 0.1])
    plain, counted = (run(tmp_path / str(i), sets=s, n_judge_fit=0, n_judge_test=0)
                      for i, s in enumerate(((("long_hair",),), (("darker_skin",),))))  # fmt: skip
    np.testing.assert_array_equal(plain.images, counted.images)
    with pytest.raises(InputError, match="a summary of it"):
        run(tmp_path / "b", sets=(("skin", "darker_skin"),))


def test_attributes_can_be_seen_in_the_pixels():
    def drawn(values):
        return avatars.draw(avatars.options(values, (0, 0, 3, 0)), 64, 64).astype(int)

    plain = drawn((0, 1, 0, 0, 0))
    # The pixel between eye and ear shows the skin; the corner shows the background.
    assert plain[0, 0].tolist() == [0xAE, 0xE0, 0xF5]
    assert drawn((0, 1, 0, 0, 3))[0, 0].tolist() == [0x6B, 0x7A, 0x90]
    assert (np.abs(drawn((0, 4, 0, 0, 0)) - plain) > 30).any(axis=2).mean() > 0.15
    assert (np.abs(drawn((0, 1, 1, 0, 0)) - plain) > 30).any(axis=2)[36:56].mean() > 0.05
    assert (np.abs(drawn((0, 1, 0, 1, 0)) - plain) > 30).any(axis=2)[24:40].mean() > 0.03
    long_hair = (np.abs(drawn((1, 1, 0, 0, 0)) - plain) > 30).any(axis=2)
    assert long_hair[40:56, :20].mean() + long_hair[40:56, 44:].mean() > 0.3


def test_hair_can_be_told_from_every_skin():
    for value in avatar_table.ATTRIBUTES["skin"]:
        assert len(avatars._hair_colours(value.choices["skinColor"][0])) >= 3


def test_one_channel(tmp_path):
    data = run(tmp_path, channels=1)
    assert data.images.shape[1:] == (16, 16, 1)
    assert load(tmp_path / "data").manifest["channels"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_attributes": ("gender",)}, "unknown attribute 'gender'"),
        ({"group_attributes": ()}, "one or more"),
        ({"sets": (("hair",),)}, "judge.attribute_sets"),
        ({"biased_proportions": (0.5, 0.6)}, "sum to 1.1"),
        ({"n_judge_fit": -1}, "-1 images for judge_fit"),
        ({"source": "avatar"}, "unknown source"),
        ({"n_biased": 0}, "train_biased"),
    ],
)
def test_bad_configs_are_named(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, **settings)
