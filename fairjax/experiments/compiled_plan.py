"""`--dry_run --compile`: what the compiled step programs need, send and predict.

They are compiled for the devices that there are, or with `--topology` for others: a slice of TPUs
that libtpu describes (its compiler needs no TPU, and its memory figures are those of one), or parts
of this CPU, whose memory figures say nothing of other machines.
"""

import os
import re
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from fairjax.errors import InputError, first_line
from fairjax.experiments.dry_run import lower, of_mean_iteration
from fairjax.models.resample import built_for
from fairjax.train import scaling
from fairjax.train.compiled import collectives, donated, memory
from fairjax.train.devices import described, mesh

FORM = "Give cpu:256, or a slice of TPUs such as v5e:16x16 or v5p:8x8x4"


def topology(name: str) -> Sequence[jax.Device]:
    """The TPUs of a slice, of which nothing can be run; () = the devices that there are.

    "cpu:256" makes that many of this CPU, if no device was used before.

    Raises:
      InputError: no such topology, or no libtpu.
    """
    if match := re.fullmatch(r"cpu:([1-9]\d{0,3})", name):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", int(match.group(1)))
    if not name or match:
        return ()
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu asks the network where it is
    # Where a chip has two cores, they are one device, as in a run.
    chips = {} if name.startswith("v5e") else {"chip_config_name": "megacore"}
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **chips)
    except Exception as error:  # libtpu tells in many ways that it does not know a name
        raise InputError(
            f"the devices cannot be described ({first_line(error)})",
            f"--topology={name}",
            f'{FORM}; TPUs need libtpu: pip install -e ".[tpu]"',
        ) from error
    return tuple(found.devices)


def compiled_facts(devices: Sequence[jax.Device], config: ConfigDict, flops: float) -> list[str]:
    """Lines about the step programs of an arm.

    Args:
      devices: what `topology` gave.
      config: of the arm. flops: operations of its mean iteration, of all devices together.
    """
    if devices:
        jax.clear_caches()  # programs that were traced for the devices that there are
        with described(devices), built_for(devices[0].platform):
            return compiled_facts((), config, flops)
    lines, number, sent_bytes = [], {}, {}
    for name, lowered in lower(config, used_only=True).items():
        compiled = lowered.compile()
        sent = collectives(compiled.as_text())
        number[name] = float(sum(s.number for s in sent.values()))
        sent_bytes[name] = float(sum(s.bytes for s in sent.values()))
        words = ", ".join(f"{kind} {s.number} x, {s.bytes:,} bytes" for kind, s in sent.items())
        held = memory(compiled)
        lines.append(
            f"  {name + ':':<17} a device holds {held.peak:,} bytes at most ({held.arguments:,} "
            f"given, {held.temporary:,} in between), {donated(compiled):,} of them reused; sends "
            f"{words or 'nothing'}"
        )
    if (count := mesh().size) > 1:
        means = (of_mean_iteration(of, config) for of in (number, sent_bytes))
        lines += predictions(count, flops / count, *means)
    return lines


def predictions(devices: int, flops: float, number: float, size: float) -> list[str]:
    """What `fairjax.train.scaling` predicts of one device's operations and all-reduces."""
    lines = [f"  predicted for {devices} devices, not measured (assumptions: "
             f"fairjax/train/scaling.py): {number:.1f} all-reduces of {size / 1e6:,.1f} MB and "
             f"{flops / 1e9:,.0f} GFLOP of each device in a mean iteration"]  # fmt: skip
    for hardware in scaling.HARDWARE:
        compute = flops / hardware.rate
        sent = scaling.all_reduce_seconds(hardware, devices, number, size)
        low, high = scaling.efficiency(compute, sent)
        lines.append(
            f"    {hardware.name + ':':<28} {1000 * compute:.2f} ms of computation, "
            f"{1000 * sent:.2f} ms of all-reduces: {low:.0%} of the speed of {devices} single "
            f"devices, {high:.0%} where they overlap"
        )
    return lines
