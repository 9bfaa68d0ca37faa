"""Random keys of the stages: functions of the seed and of names, never saved."""

import hashlib

import jax


def number(seed: int, *names: str | int) -> int:
    """A 63-bit seed for host-side draws, the same on every machine."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def root(seed: int, *names: str | int) -> jax.Array:
    """Root key of a stage, fold or arm; the step is folded in by the step itself."""
    return jax.random.fold_in(jax.random.key(seed), number(0, *names) & 0x7FFFFFFF)
