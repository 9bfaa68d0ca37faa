"""Facts of a compiled program: what its devices send each other, and the memory that one needs."""

import math
import re
from typing import NamedTuple

import jax

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CALL = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"\b[a-z]+(\d+)\w*\[([\d,]*)\]")


class Sent(NamedTuple):
    """Collectives of one kind in a program: their number, and the bytes that one device puts in."""

    number: int
    bytes: int


def collectives(text: str) -> dict[str, Sent]:
    """What a compiled program (`compiled.as_text()`) sends, by kind: "all-reduce", ...

    A collective in a loop counts once. The results of "all-gather" are counted, which are larger
    than what goes in.
    """
    found: dict[str, Sent] = {}
    for shapes, kind in _CALL.findall(text):
        size = 0
        for bits, dims in _ARRAY.findall(shapes):
            size += int(bits) * math.prod(int(d) for d in dims.split(",") if d) // 8
        before = found.get(kind, Sent(0, 0))
        found[kind] = Sent(before.number + 1, before.bytes + size)
    return found


def donated(compiled: jax.stages.Compiled) -> int:
    """Bytes of a program's inputs on one device whose memory its results take over."""
    analysis = compiled.memory_analysis()
    return 0 if analysis is None else int(analysis.alias_size_in_bytes)


class Memory(NamedTuple):
    """Bytes of one device while a program runs."""

    arguments: int
    temporary: int  # between inputs and results
    peak: int  # inputs, results and what is in between; what is taken over counts once


def memory(compiled: jax.stages.Compiled) -> Memory:
    """Memory of one device, by the compiler's own plan."""
    m = compiled.memory_analysis()
    if m is None:
        return Memory(0, 0, 0)
    peak = (m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
            - m.alias_size_in_bytes)  # fmt: skip
    return Memory(int(m.argument_size_in_bytes), int(m.temp_size_in_bytes), int(peak))
