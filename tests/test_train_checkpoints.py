import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.train.checkpoints import Checkpoints


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
        with pytest.raises(OSError, match="killed"):
            checkpoints.save(3, state(3))
        monkeypatch.setattr(os, "rename", rename)
    assert len(list(tmp_path.iterdir())) > 2  # the remains of the third
    with Checkpoints(tmp_path) as again:
        assert again.latest == 2
        assert again.restore(ABSTRACT)["step"] == 2
        again.save(3, state(33))
        assert again.restore(ABSTRACT)["step"] == 33
