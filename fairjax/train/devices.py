"""Processes, devices and shardings: the only file that knows how many there are."""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fairjax.errors import InputError, first_line
from fairjax.train.stopping import Alone

log = logging.getLogger("fairjax")

# Variables by which a cluster announces more than one process (JAX reads these itself).
_CLUSTERS = (
    "TPU_WORKER_HOSTNAMES",
    "TPU_PROCESS_ADDRESSES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "OMPI_MCA_orte_hnp_uri",
    "OMPI_COMM_WORLD_SIZE",
    "JAX_COORDINATOR_ADDRESS",
)
# Variables of other launchers (MPICH, torchrun), which JAX does not read.
_SIZES = ("PMI_SIZE", "WORLD_SIZE")
# What the libraries of collectives say where another process does not answer.
_LOST = re.compile(r"gloo|nccl|coordination|heartbeat|UNAVAILABLE|DEADLINE_EXCEEDED", re.IGNORECASE)
HEARTBEAT = 30  # seconds after which a silent process counts as lost


def initialise(
    distributed: str, coordinator: str = "", processes: int = 0, process: int = -1
) -> None:
    """Joins the other processes of the run; must come before any other use of a device.

    Args:
      distributed: "on" (fail without a cluster), "off", or "auto" (on where Slurm, Open MPI or a
        TPU pod announces more than one process, or the three others are given).
      coordinator: "host:port" of process 0, where the launcher is none that JAX knows.
      processes: their number. process: the number of this one, from 0.

    Raises:
      InputError: a cluster was asked for and none is there. Going on alone would train n copies.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and (not all(given) or process >= processes or distributed == "off"):
        raise InputError(
            f"--coordinator={coordinator} --processes={processes} --process={process}",
            f"--distributed={distributed}",
            "Give all three in every process, --process from 0 to --processes - 1, or none of them",
        )
    if distributed == "off":
        return
    if distributed == "auto" and not any(given) and announced() < 1:
        return
    named: dict[str, Any] = {}
    if any(given):
        named = {"coordinator_address": coordinator, "num_processes": processes,
                 "process_id": process}  # fmt: skip
    try:
        jax.distributed.initialize(
            **named, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=HEARTBEAT
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes of the cluster did not find each other ({error})",
            f"--distributed={distributed}",
            "Start one process per GPU or TPU host under the cluster's launcher, or give "
            "--coordinator, --processes and --process, or use --distributed=off for a single "
            "process",
        ) from error


def announced() -> int:
    """How many processes the environment announces in a way that JAX reads.

    0 = none; 1 also where a cluster is there and JAX counts its processes itself.

    Raises InputError where it announces several in another way: each would train a copy.
    """
    slurm, here = _count("SLURM_NTASKS"), "SLURM_STEP_NODELIST" in os.environ
    if slurm > 1 and not here and "SLURM_JOB_ID" in os.environ:
        raise InputError(
            f"Slurm gave {slurm} tasks and this process is none of them",
            "the variable SLURM_NTASKS",
            "Start it with srun, or give --distributed=off for a single process",
        )
    if slurm > 1 and here:
        return slurm
    if any(os.environ.get(name) for name in _CLUSTERS):
        hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").count(",") + 1
        return max(_count("OMPI_COMM_WORLD_SIZE"), hosts)
    for name in _SIZES:
        if _count(name) > 1:
            raise InputError(
                f"{_count(name)} processes are announced, which would each train alone",
                f"the variable {name}",
                "Give --coordinator, --processes and --process, or --distributed=off",
            )
    return 0


def refuse_copies(distributed: str, processes: int = 0) -> None:
    """Raises InputError where JAX sees one process and the flags or the environment say more.

    Each would train the whole run. TPU hosts whose own runtime knows nothing of the others do so.
    """
    if not is_alone() or (distributed == "off" and not processes):
        return
    if (expected := processes or announced()) > 1:
        raise InputError(
            f"{expected} processes are announced and JAX sees one, so that each would train alone",
            f"--distributed={distributed}",
            "Start all of them under one launcher that JAX knows (on a TPU pod with --worker=all), "
            "or give --distributed=off for a single process",
        )


def _count(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0


def _mesh_of(devices: Iterable[jax.Device]) -> jax.sharding.Mesh:
    """Process by process, as `local_slice` loads a batch. `jax.make_mesh` orders TPUs by their
    place in the slice, where the devices of a process are no neighbours on one axis."""
    order = sorted(devices, key=lambda device: (device.process_index, device.id))
    return jax.sharding.Mesh(np.array(order), ("data",), axis_types=(AxisType.Auto,))


@functools.cache
def _own_mesh() -> jax.sharding.Mesh:
    return _mesh_of(jax.devices())


_described: jax.sharding.Mesh | None = None


def mesh() -> jax.sharding.Mesh:
    """All devices on one axis, "data". Auto axes: the default (Explicit) refuses reshapes."""
    return _own_mesh() if _described is None else _described


@contextlib.contextmanager
def described(devices: Iterable[jax.Device]) -> Iterator[None]:
    """Inside, programs are laid out for these devices, which need not be there: a description of
    them, of which nothing can be run, is enough for compiling."""
    global _described
    _described = _mesh_of(devices)
    try:
        yield
    finally:
        _described = None


def batch_sharding() -> NamedSharding:
    """Leading axis split over all devices."""
    return NamedSharding(mesh(), PartitionSpec("data"))


def replicated() -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def local_slice(batch: int) -> slice:
    """The contiguous part of a global batch that this process loads."""
    share = batch // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def put_batch(local: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's part of a batch -> the global batch, split over the devices."""
    sharding = batch_sharding()
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in local.items()
    }


def spread(x: jax.Array) -> jax.Array:
    """Splits what a program makes itself (latents) over the devices, where it divides evenly.

    Without this the compiler has no sharded input in the generator step and every device would
    compute the whole batch.
    """
    if mesh().size == 1 or x.shape[0] % mesh().size:
        return x
    return jax.lax.with_sharding_constraint(x, batch_sharding())


def is_alone() -> bool:
    """Whether the run has one process only."""
    return jax.process_count() == 1


def lead_says(value: bool) -> bool:
    """The lead process's answer, in all processes: they never decide each for themselves."""
    if is_alone():
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What all processes of a run do together: where one of them ends, so do the others.

    Raises:
      Alone: another process is gone; JAX names it some seconds later, when it misses a heartbeat.
    """
    try:
        yield
    except InputError as error:
        if not is_alone():
            log.error("error: %s", error)
            os._exit(2)  # JAX would wait for the others, which wait for this one
        raise
    except (RuntimeError, ValueError) as error:
        if is_alone() or not _LOST.search(str(error)):
            raise
        raise Alone(
            f"process {jax.process_index()} lost another process of the run "
            f"({first_line(error)}). What is saved is kept: start all of them again"
        ) from error


def all_preempted(look: int) -> bool:
    """Whether a process of the run was told to end; the same answer in all, at the same look.

    Args:
      look: a number that rises with every call and is the same in all processes.
    """
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(look)


def put_replicated(value: np.ndarray) -> jax.Array:
    """A host array, equal in all processes -> one array that every device holds."""
    return jax.device_put(value, replicated())


def is_lead() -> bool:
    """Only the lead process writes files."""
    return jax.process_index() == 0
