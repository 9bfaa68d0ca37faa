"""A generator whose images are known in closed form, at 8 px. No test in this file."""

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.experiments.saved_generator import Trained
from fairjax.models.stylegan2 import Generator
from fairjax.train.network_files import G_FIELDS, Saved, fields_of, write_folder

W_DIM = 16


def two_colours() -> Trained:
    """Images of one colour: its red is that of w[0], its blue 0.6 w[0] + 0.8 w[1], so that both go
    together."""
    net = Generator(8, z_dim=W_DIM, w_dim=W_DIM, mapping_layers=1, channel_base=32, channel_max=4)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, W_DIM)))["params"]
    g = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes)
    g["mapping"]["fc0"]["weight"] = 100 * np.eye(W_DIM, dtype=np.float32)
    block = g["synthesis"]["b8"]
    block["conv1"]["bias"][:] = 1.0
    affine = block["torgb"]["affine"]["weight"]
    affine[0, 0], affine[0, 1], affine[1, 1] = 1.0, 0.6, 0.8
    block["torgb"]["weight"][..., 0, 0], block["torgb"]["weight"][..., 1, 2] = 1.0, 1.0
    return Trained(net, g, None, np.zeros(W_DIM, np.float32), None)


def save(folder, trained: Trained) -> None:
    """Writes it as the `gan` stage does."""
    folder.mkdir(parents=True)
    write_folder(folder, Saved(fields_of(trained.net, G_FIELDS), trained.params, trained.mean))
