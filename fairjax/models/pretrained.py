"""A ResNet-18 or ResNet-50 that was trained elsewhere, from a file in torchvision's form.

Names and shapes are those of torchvision's `resnet18` and `resnet50` (1,000 ImageNet classes); the
file is safetensors, or what `torch.save` makes of a state dict. It is read as data: nothing in it
is run. What is taken is all but the last layer, which knows other classes.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fairjax.models.resnet import ResNet
from fairjax.models.safetensors_file import read_safetensors
from fairjax.models.torch_file import read_torch_file, refuse_others

DEPTHS = {"resnet18": 18, "resnet50": 50}
WIDTH, STEM = 64, "imagenet"  # those of torchvision's networks
CLASSES = 1000
# Of the training images in [0, 1], by channel: what torchvision's networks are shown.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEND = "Give a state dict of torchvision's network of this name, .safetensors or .pth"
LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var",
          "kernel": "weight"}  # fmt: skip


def read(path: Path, model: str) -> dict[str, Any]:
    """The trunk of a file: {"params", "batch_stats"} of `ResNet(64, depth=...)` without "out".

    Raises:
      InputError: the file cannot be read, or a tensor is missing, left over or of another shape.
    """
    if path.suffix == ".safetensors":
        tensors = read_safetensors(path, MEND)
    else:
        tensors = read_torch_file(path)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    net = ResNet(WIDTH, stem=STEM, depth=DEPTHS[model])
    made = jax.eval_shape(
        lambda key, x: net.init(key, x, False, features=True), jax.random.key(0), image
    )
    places = {place: tuple(leaf.shape) for place, leaf in flatten_dict(made).items()}
    names = {place: name_of(place) for place in places}
    expected = {names[place]: torch_shape(shape) for place, shape in places.items()}
    width = max(shape[-1] for shape in places.values())  # of the features
    expected |= {"fc.weight": (CLASSES, width), "fc.bias": (CLASSES,)}
    refuse_others(tensors, expected, f"{path} as {model}", MEND)
    found = {}
    for place, name in names.items():
        tensor = tensors[name]
        if place[-1] == "kernel":  # OIHW -> HWIO, or IO where that is 1 x 1
            tensor = tensor.transpose(2, 3, 1, 0).reshape(places[place])
        found[place] = np.ascontiguousarray(tensor, np.float32)
    return unflatten_dict(found)


def name_of(place: tuple[str, ...]) -> str:
    """Torchvision's name of a variable of `ResNet`, such as layer1.0.bn2.running_mean."""
    *block, layer, leaf = place[1:]
    if not block:
        own = {"stem": "conv1", "stem_norm": "bn1"}[layer]
    else:
        stage, number = block[0].removeprefix("stage").split("_block")
        inner = {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}.get(layer)
        if inner is None:
            inner = f"{layer[:-1].replace('norm', 'bn')}{int(layer[-1]) + 1}"
        own = f"layer{int(stage) + 1}.{number}.{inner}"
    return f"{own}.{LEAVES[leaf]}"


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a kernel HWIO or IO: OIHW; of a vector: its own."""
    if len(shape) == 1:
        return shape
    height, width = shape[:2] if len(shape) == 4 else (1, 1)
    return shape[-1], shape[-2], height, width


def normalised(x: jax.Array) -> jax.Array:
    """Images in [-1, 1], [n, h, w, 3], as these networks were shown them."""
    return ((x + 1) / 2 - jnp.asarray(MEAN)) / jnp.asarray(DEVIATION)
