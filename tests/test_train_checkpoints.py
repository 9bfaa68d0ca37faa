import os
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.train.checkpoints import HASHES, Checkpoints


def state(value):
    return {"step": jnp.asarray(value), "a": {"w": jnp.full((2, 3), value / 3)}, "e": jnp.ones(())}


ABSTRACT = jax.eval_shape(lambda: state(0))


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.isdigit())


def test_round_trip_on_the_newest(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
        for step in (1, 5, 12):
            checkpoints.save(step, state(step))
    with Checkpoints(tmp_path) as again:
        assert again.latest == 12
        back = again.restore(ABSTRACT)
    jax.tree.map(np.testing.assert_array_equal, back, state(12))
    assert names(tmp_path) == ["12", "5"]  # two are kept


def test_a_step_is_saved_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3))
        checkpoints.save(3, state(4))
        assert checkpoints.restore(ABSTRACT)["step"] == 3


def test_a_half_written_checkpoint_is_passed_over(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
        rename = os.rename

        def killed(*args, **kwargs):
            raise OSError("killed before the rename")

        monkeypatch.setattr(os, "rename", killed)
        with pytest.raises(InputError, match="step 3 cannot be written .killed.*step 2 is kept"):
            checkpoints.save(3, state(3))
        monkeypatch.setattr(os, "rename", rename)
    assert len(list(tmp_path.iterdir())) > 2  # the remains of the third
    with Checkpoints(tmp_path) as again:
        assert again.latest == 2
        assert again.restore(ABSTRACT)["step"] == 2
        again.save(3, state(33))
        assert again.restore(ABSTRACT)["step"] == 33


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    """A limit on the size of files stands for the disk: the system refuses to write on."""
    large = {"w": jnp.asarray(np.random.default_rng(0).normal(size=100_000))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, large)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(InputError, match="step 2 cannot be written.*step 1 is kept.*space"):
                checkpoints.save(2, large)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Checkpoints(tmp_path) as again:
        assert again.latest == 1
        again.save(2, large)
        assert again.latest == 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [truncate, flip, os.unlink])
def test_damage_of_any_file_of_the_newest_leads_to_the_one_before(tmp_path, caplog, harm):
    whole = tmp_path / "whole"
    with Checkpoints(whole) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
    files = [f.relative_to(whole) for f in (whole / "2").rglob("*") if f.is_file()]
    files = [f for f in files if harm is os.unlink or (whole / f).stat().st_size]
    assert len(files) > 3
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        harm(folder / file)
        caplog.clear()
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.latest == 1, file
            if number == 0:
                assert checkpoints.restore(ABSTRACT)["step"] == 1
                checkpoints.save(2, state(2))
                assert checkpoints.latest == 2
        (line,) = [r.message for r in caplog.records if r.name == "fairjax"]
        assert "checkpoint of step 2 is damaged" in line
        assert HASHES in str(file) or file.name in line
        left = {f.relative_to(tmp_path / f"{number}_aside") for f in
                (tmp_path / f"{number}_aside").rglob("*") if f.is_file()}  # fmt: skip
        assert {*files} - {file} <= left  # put aside, not deleted


def test_without_a_whole_checkpoint_the_training_starts_anew(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
    for step in "12":
        (tmp_path / step / HASHES).write_text("[]")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
    assert len([r for r in caplog.records if "is damaged" in r.message]) == 2
