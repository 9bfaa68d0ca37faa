"""What is read from a compiled program; the programs of a run are in test_train_devices.py."""

import jax
import jax.numpy as jnp

from fairjax.train.compiled import collectives, donated, memory


def test_collectives_are_counted_with_the_bytes_of_all_their_arrays():
    text = """
      %a = (f32[3,4]{1,0}, f64[]) all-reduce(%x, %y), channel_id=1
      ROOT %b = bf16[8]{0} all-gather-start(%z)
      %c = f32[2]{0} all-reduce(%x)
      %d = f32[99]{0} add(%all-reduce.5, %x)
    """
    assert collectives(text) == {"all-reduce": (2, 56 + 8), "all-gather": (1, 16)}


def test_memory_of_a_program_that_takes_over_its_input():
    x = jnp.zeros(1000, jnp.float32)
    kept = jax.jit(lambda x: x + 1).lower(x).compile()
    taken = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert (donated(kept), donated(taken)) == (0, 4000)
    assert memory(kept).peak - memory(taken).peak == 4000
    assert memory(taken).arguments == 4000
    assert collectives(taken.as_text()) == {}
