"""Programs of tests, compiled without optimisation: the numbers are few, the compiler is slow."""

from functools import partial

import jax

from fairjax.models.initialize import FAST_COMPILE

quick_jit = partial(jax.jit, compiler_options=FAST_COMPILE)
