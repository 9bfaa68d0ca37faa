"""Random tensors of Inception-v3, the same everywhere, and what torch-fidelity makes of them.

`python tests/inception_numbers.py` (needs torch and torch-fidelity 0.4) writes
inception_numbers.json: the shapes of all convolutions, and numbers of the original implementation
for `IMAGES`. With a file name it writes the tensors there, in the format of pytorch-fid's file.
"""

import json
import sys
import zlib
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

FILE = Path(__file__).with_suffix(".json")
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 41, 330, 3), dtype=np.uint8)
KEPT = np.s_[::16]


def tensors(convolutions):
    """{name: float32 array} of a file with these convolutions, {name: [o, i, h, w]}."""
    shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for name, shape in convolutions.items():
        shapes[f"{name}.conv.weight"] = tuple(shape)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (shape[0],)
    return {name: random(name, shape) for name, shape in shapes.items()}


def random(name, shape):
    """Such that the activations keep their size from layer to layer."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("bn.weight", "running_var")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    return rng.standard_normal(shape, np.float32) * np.float32(scale)


def original():
    """torch-fidelity's network with these tensors, and the shapes of its convolutions."""
    import torch

    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        sys.modules["torchvision" + name] = MagicMock()  # imported there, not needed here
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    convolutions = {}

    class Network(theirs.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            convolutions.update({name.removesuffix(".conv.weight"): list(value.shape)
                                 for name, value in self.state_dict().items()
                                 if name.endswith(".conv.weight")})  # fmt: skip
            own = {k: torch.from_numpy(v) for k, v in tensors(convolutions).items()}
            super().load_state_dict(self.state_dict() | own)

    theirs.load_state_dict_from_url = lambda *args, **kwargs: {}
    return Network("inception-v3-compat", ["2048", "logits_unbiased"]), convolutions


def main():
    import torch

    network, convolutions = original()
    if len(sys.argv) > 1:
        torch.save(network.state_dict(), sys.argv[1], _use_new_zipfile_serialization=False)
        return
    x = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2))
    features, logits = network(x)
    resized = sys.modules["torch_fidelity.feature_extractor_inceptionv3"]
    small = resized.interpolate_bilinear_2d_like_tensorflow1x(
        x.to(torch.float32), size=(299, 299), align_corners=False
    )
    numbers = {
        "convolutions": convolutions,
        "features": features[:, KEPT].tolist(),
        "logits": logits[:, KEPT].tolist(),
        "resized": small[0, 0, ::23, ::23].tolist(),
    }
    FILE.write_text(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main()
