"""Networks of anybody's as ONNX files, run by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fairjax.errors import InputError

BATCH = 100
# What is done to bytes before the network: (x / 255 - mean) / deviation; "bytes" leaves 0 to 255.
SCALES: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "bytes": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
BYTES = "tensor(uint8)"
KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
         BYTES: np.uint8}  # fmt: skip


class OnnxNetwork:
    """A network that maps a batch of square RGB images to rows of numbers.

    Args:
      path: the file. scale: a name of SCALES. where: the flag or config key, for error messages.

    Raises:
      InputError: no onnxruntime, no such model, or one that does not map a batch of square RGB
        images ([n, 3, s, s] or [n, s, s, 3], s fixed) to [n, k].
    """

    def __init__(self, path: Path, scale: str, where: str):
        self._where = where
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError("onnxruntime is not installed", where,
                             'pip install -e ".[onnx]"') from error  # fmt: skip
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=[
                "CPUExecutionProvider"])  # fmt: skip
        except Exception as error:  # the library has many kinds, none of them public
            raise InputError(f"cannot be read ({error})", where, "Give an ONNX file") from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        self._first = len(shape) == 4 and shape[1] == 3  # channels before rows and columns
        sides = shape[2:] if self._first else shape[1:3]
        if len(shape) != 4 or not (self._first or shape[3] == 3) or not (
            isinstance(sides[0], int) and sides[0] == sides[1]
        ):  # fmt: skip
            raise InputError(f"its inputs are {[(i.name, i.shape) for i in inputs]}", where,
                             "Export with one input [n, 3, s, s] or [n, s, s, 3], s fixed"
                             )  # fmt: skip
        self.resolution = int(sides[0])
        self._fixed = shape[0] if isinstance(shape[0], int) else None
        self._name, kind = inputs[0].name, inputs[0].type
        if kind not in KINDS or (kind == BYTES and scale != "bytes"):
            raise InputError(f"its input is a {kind} and the scale {scale}", where,
                             f"Export with one of {', '.join(KINDS)}; {BYTES} for bytes only"
                             )  # fmt: skip
        self._kind = KINDS[kind]
        self._mean, self._deviation = (np.asarray(v, np.float32) for v in SCALES[scale])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """[n, s, s, 3] on the scale of bytes -> rows of the first output, float64 [n, k]."""
        size = self._fixed or BATCH
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            x = np.zeros((size, *images.shape[1:]), np.float32)
            x[: len(part)] = (part / np.float32(255) - self._mean) / self._deviation
            x = x.transpose(0, 3, 1, 2) if self._first else x
            x = np.rint(x) if self._kind is np.uint8 else x
            given = {self._name: x.astype(self._kind)}
            out = np.asarray(self._session.run(None, given)[0], np.float64)
            if out.ndim != 2 or len(out) != size or out.shape[1] < 2:
                raise InputError(f"its first output is {out.shape} for {size} images", self._where,
                                 "Export with one row of numbers for each image")  # fmt: skip
            parts.append(out[: len(part)])
        return np.concatenate(parts)
