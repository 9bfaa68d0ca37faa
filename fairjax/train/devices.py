"""Processes, devices and shardings: the only file that knows how many there are."""

import functools
import os

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fairjax.errors import InputError

# Variables by which a cluster announces more than one process (JAX reads these itself).
_CLUSTERS = (
    "TPU_WORKER_HOSTNAMES",
    "TPU_PROCESS_ADDRESSES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "OMPI_MCA_orte_hnp_uri",
    "OMPI_COMM_WORLD_SIZE",
    "JAX_COORDINATOR_ADDRESS",
)


def initialise(distributed: str) -> None:
    """Joins the other processes of the run; must come before any other use of a device.

    Args:
      distributed: "on" (fail without a cluster), "off", or "auto" (on where Slurm, Open MPI or a
        TPU pod announces more than one process).

    Raises:
      InputError: a cluster was asked for and none is there. Going on alone would train n copies.
    """
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in os.environ
    announced = slurm or any(os.environ.get(name) for name in _CLUSTERS)
    if distributed == "off" or (distributed == "auto" and not announced):
        return
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes of the cluster did not find each other ({error})",
            f"--distributed={distributed}",
            "Start one process per GPU or TPU host under the cluster's launcher, or use "
            "--distributed=off for a single process",
        ) from error


@functools.cache
def mesh() -> jax.sharding.Mesh:
    """All devices on one axis, "data". Auto axes: the default (Explicit) refuses reshapes."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


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
    if jax.device_count() == 1 or x.shape[0] % jax.device_count():
        return x
    return jax.lax.with_sharding_constraint(x, batch_sharding())


def lead_says(value: bool) -> bool:
    """The lead process's answer, in all processes: they never decide each for themselves."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def put_replicated(value: np.ndarray) -> jax.Array:
    """A host array, equal in all processes -> one array that every device holds."""
    return jax.device_put(value, replicated())


def is_lead() -> bool:
    """Only the lead process writes files."""
    return jax.process_index() == 0
