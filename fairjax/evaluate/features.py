"""Feature networks by name, and the features of many images: batches of one shape, on all devices
of the process."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fairjax.data.cache import file_sha256
from fairjax.data.decode import opaque
from fairjax.models import efficientnet, random_features
from fairjax.models import inception as inception_v3
from fairjax.models.onnx_network import OnnxNetwork

UNTRAINED = "random_conv"
Told = Callable[[int], None]  # given the number of images so far, after each batch


class Network(NamedTuple):
    """A frozen network: uint8 images [n, h, w, 3] -> features float32 [n, width].

    Attributes:
      name: in the names of figures. identity: text; whatever decides the features of an image.
      batch: images that go through it at once.
      classes: float32 [width, classes], from features to logits; only where there is an Inception
        score.
      as_they_are: it sees gray and transparent images with the channels that they have.
    """

    name: str
    identity: str
    width: int
    of: Callable[[Any], Any]
    batch: int = 128
    classes: np.ndarray | None = None
    as_they_are: bool = False


def efficientnet_lite0(resolution: int) -> Network:
    """The last layer of the ImageNet network that every installation has, at these pixels.

    Raises InputError: its weights are missing or damaged.
    """
    of = functools.partial(efficientnet.features, _efficientnet(), resolution=resolution)
    identity = f"efficientnet_lite0 {efficientnet.SHA256_START} {resolution}"
    return Network("efficientnet_lite0", identity, efficientnet.FEATURES, of)


def efficientnet_levels(resolution: int) -> Network:
    """As `efficientnet_lite0`, the means of all levels of the network but the last."""
    of = functools.partial(efficientnet.levels, _efficientnet(), resolution=resolution)
    identity = f"efficientnet_levels {efficientnet.SHA256_START} {resolution}"
    return Network("efficientnet_levels", identity, efficientnet.LEVELS, of)


def random_conv(widths: tuple[int, ...] = random_features.NARROW) -> Network:
    """The untrained network of these widths, at its own resolution."""
    of = functools.partial(random_features.features, widths=widths)
    identity = f"random_conv {random_features.SEED} {widths}"
    return Network(UNTRAINED, identity, random_features.size(widths), of)


@functools.cache
def inception(file: str) -> Network:
    """Inception-v3 with the weights of the user's file.

    It is called `inception` if this is the file of the FID, so that `frechet/inception` is the FID
    and nothing else; with other weights, `inception_` and the first digits of the file's SHA-256.

    Raises InputError: another file.
    """
    weights = inception_v3.load(Path(file).expanduser())
    known = weights.sha256 == inception_v3.SHA256
    of = functools.partial(inception_v3.features, _everywhere(weights.params))
    return Network("inception" if known else f"inception_{weights.sha256[:8]}",
                   f"inception {weights.sha256}", inception_v3.FEATURES, of, 32,
                   weights.classes)  # fmt: skip


@functools.cache
def onnx(file: str, scale: str, where: str) -> Network:
    """A network of the user's, `onnx_<name of the file>`: features are rows of its first output.

    Args:
      scale: how it wants pixels, see `fairjax.models.onnx_network`. where: for error messages.

    Raises InputError: another file.
    """
    path = Path(file).expanduser()
    network = OnnxNetwork(path, scale, where)
    side = network.resolution

    def of(images: Any) -> np.ndarray:
        x = np.asarray(images)
        if x.shape[1:3] != (side, side):
            shape = (len(x), side, side, 3)
            x = np.asarray(jax.image.resize(x.astype(np.float32), shape, "bilinear"))
        return network(x)

    width = network(np.zeros((1, side, side, 3))).shape[1]
    return Network(f"onnx_{path.stem}", f"onnx {file_sha256(path)} {scale}", width, of)


def judge(
    label: str, digest: str, width: int, variables: Any, of: Callable[[Any, Any], Any]
) -> Network:
    """The layer before the decision of a judge, `judge_<attributes>`.

    It was trained on the attribute: it sees best what the groups differ in, and little else.

    Args:
      digest: SHA-256 of its file. of: (variables, uint8 images) -> float32 [n, width].
    """
    of = functools.partial(of, _everywhere(variables))
    return Network(f"judge_{label}", f"judge {digest}", width, of, as_they_are=True)


def networks(
    trained: str, resolution: int, inception_file: str | None, onnx_file: str | None = None,
    scale: str = "imagenet", where: str = "eval.onnx",
) -> list[Network]:  # fmt: skip
    """Those of an evaluation: the untrained one with which trainings are followed, and better ones.

    Args:
      trained: efficientnet_lite0, or none. resolution: pixels at which it sees an image.
      inception_file: see `inception`; None or empty = without.
      onnx_file: see `onnx`, as `scale` and `where`.

    Raises InputError: weights are missing, or are not those of the network.
    """
    found = [random_conv()]
    found += [efficientnet_lite0(resolution)] if trained != "none" else []
    found += [inception(inception_file)] if inception_file else []
    return found + ([onnx(onnx_file, scale, where)] if onnx_file else [])


def extract(
    network: Network,
    images: np.ndarray,
    positions: np.ndarray | None = None,
    done: Told = lambda images: None,
) -> np.ndarray:
    """Features of uint8 images [.., h, w, 1, 3 or 4] -> float32 [n, width].

    Args:
      images: may be memory-mapped; a batch is read at a time.
      positions: int [n], which images; None = all.
      done: progress.
    """
    which = np.arange(len(images)) if positions is None else positions
    out = np.empty((len(which), network.width), np.float32)
    size = -(-network.batch // jax.local_device_count()) * jax.local_device_count()
    for start in range(0, len(which), size):
        part = np.asarray(images[which[start : start + size]])
        part = part if network.as_they_are else opaque(part)
        padded = np.zeros((size, *part.shape[1:]), part.dtype)  # one shape, one program
        padded[: len(part)] = part
        split = jax.device_put(padded, _sharding("data"))
        out[start : start + len(part)] = np.asarray(network.of(split))[: len(part)]
        done(start + len(part))
    return out


def _sharding(*axes: str) -> NamedSharding:
    """Over this process's own devices: each process measures what it was given."""
    return NamedSharding(_mesh(), PartitionSpec(*axes))


@functools.cache
def _mesh() -> jax.sharding.Mesh:
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def _everywhere(params: Any) -> Any:
    return jax.device_put(params, _sharding())


@functools.cache
def _efficientnet() -> efficientnet.Params:
    """Read and checked once: an evaluation asks for the features of several sets."""
    return _everywhere(efficientnet.load_params())
