import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fairjax.models.initialize import initialize


def test_it_draws_what_init_draws():
    x = jnp.zeros((1, 5))
    a = initialize(nn.Dense(3), jax.random.key(4), x)
    b = nn.Dense(3).init(jax.random.key(4), x)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5), a, b)
    other = initialize(nn.Dense(3), jax.random.key(5), x)
    assert not np.allclose(a["params"]["kernel"], other["params"]["kernel"])
