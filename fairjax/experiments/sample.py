"""The command line of `launch/sample.py`: images of a trained generator as PNG files."""

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from flax.traverse_util import flatten_dict
from PIL import Image

from fairjax.data.cache import write_json
from fairjax.errors import InputError
from fairjax.experiments.command import ended, unknown_flag

log = logging.getLogger("fairjax")

# What `gan` writes into generator.json is what the generator is built from.
FIELDS = ("resolution", "image_channels", "z_dim", "w_dim", "mapping_layers", "channel_base",
          "channel_max", "g_architecture", "conv_clamp")  # fmt: skip


def sample_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("generator", None, "Folder that holds generator.safetensors and "
                        "generator.json, e.g. runs/quickstart-2026-11-21/arms/weighted/gan.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("out", None, "New or empty folder for the images.", flag_values=values)
    flags.DEFINE_integer("n", 64, "Number of images.", 1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Image i is a function of (seed, i) alone.", 0,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_float("psi", 1.0, "Truncation: 1 = none, below 1 = nearer to the average image, "
                       "which is that of the majority. Figures hold for 1 only.", 0.0, 2.0,
                       flag_values=values)  # fmt: skip
    flags.DEFINE_integer("cutoff", None, "Truncate this many layers, from the coarsest; default: "
                         "all.", 0, flag_values=values)  # fmt: skip
    flags.DEFINE_enum("noise", "random", ["random", "none"], "Noise images of the layers.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_integer("batch", 32, "Images at a time; changes no image.", 1, flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 2 where the input cannot be used."""
    argv = list(sys.argv if argv is None else argv)
    if any(arg in ("-h", "--help", "--helpfull") for arg in argv[1:]):
        print(f"{Path(argv[0]).name}: draws images from a trained generator.")
        print(sample_flags().get_help())
        print("Example: python launch/sample.py --out=faces --generator=RUN/arms/weighted/gan")
        return
    with ended(shlex.join(["python", *argv])):
        _run(argv)


def _run(argv: list[str]) -> None:
    values = sample_flags()
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        raise unknown_flag(error.flagname, list(sample_flags())) from error
    except flags.Error as error:
        see = "See python launch/sample.py --help"
        raise InputError(str(error), "command line", see) from error
    if len(rest) > 1:
        raise InputError(
            f"unexpected argument {rest[1]!r}", "command line", "Flags are written --name=value"
        )
    for name in ("generator", "out"):
        if not values[name].value:
            raise InputError("not given", f"--{name}", "See python launch/sample.py --help")
    out = Path(values.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("it exists and is not an empty folder", str(out), "Give a new folder")
    images = draw(Path(values.generator), n=values.n, seed=values.seed, psi=values.psi,
                  cutoff=values.cutoff, noise=values.noise, batch=values.batch)  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(out / f"{i:06d}.png")
    columns = min(8, len(images))
    table = images[: min(len(images) // columns, 8) * columns]
    from fairjax.train.gan import grid

    Image.fromarray(grid(table, columns).squeeze()).save(out / "grid.png")
    write_json(out / "samples.json", {k: values[k].value for k in
               ("generator", "n", "seed", "psi", "cutoff", "noise")})  # fmt: skip
    print(f"{len(images)} images in {out}, an overview in {out / 'grid.png'}")


def load_generator(folder: Path) -> tuple[Any, Any, np.ndarray]:
    """The files that the `gan` stage wrote -> (module, its parameters, mean w [w_dim]).

    Raises:
      InputError: a file is missing or damaged, or the parameters are not those of the architecture.
    """
    import jax
    import jax.numpy as jnp

    from fairjax.models.stylegan2 import Generator
    from fairjax.train.weight_files import load_tree

    path = folder / "generator.json"
    try:
        shape = json.loads(path.read_text())
        fields = {name: shape[name] for name in FIELDS}
        fields["architecture"] = fields.pop("g_architecture")
        fields["conv_clamp"] = fields["conv_clamp"] or None
        net = Generator(**fields)
        wanted = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, net.z_dim)))["params"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"no description of a generator ({error})",
            str(path),
            "Give the folder of a finished `gan` stage, e.g. RUN/arms/main/gan",
        ) from error
    weights = folder / "generator.safetensors"
    saved = load_tree(weights)
    found = {k: v.shape for k, v in flatten_dict(saved.get("generator", {}), sep="/").items()}
    expected = {k: v.shape for k, v in flatten_dict(wanted, sep="/").items()}
    mean = saved.get("mapping_mean", {}).get("w_avg", np.zeros(0))
    wrong = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    if wrong or mean.shape != (net.w_dim,):
        name = wrong[0] if wrong else "w_avg"
        raise InputError(
            f"{len(wrong) or 1} arrays are not those of {path.name}, the first is {name}: "
            f"{found.get(name)} instead of {expected.get(name)}",
            str(weights),
            "Keep both files of one run together",
        )
    return net, saved["generator"], mean


def draw(folder: Path, *, n: int, seed: int = 0, psi: float = 1.0, cutoff: int | None = None,
         noise: str = "random", batch: int = 32) -> np.ndarray:  # fmt: skip
    """n images uint8 [n, H, W, C] of the generator in `folder`.

    Image i depends on (seed, i) alone, not on n or the batch. Truncation (`psi`, `cutoff`) is that
    of `fairjax.models.stylegan2.truncate`, around the mean w of the training.
    """
    import jax
    import jax.numpy as jnp

    from fairjax.models.stylegan2 import num_ws, truncate
    from fairjax.train.progress import Meter

    net, params, mean = load_generator(folder)

    layers = num_ws(net.resolution)
    until = layers if cutoff is None else cutoff

    @jax.jit  # what changes from call to call is an argument: one program for all
    def images(
        indices: jax.Array, key: jax.Array, params: Any, mean: jax.Array, psi: float, until: int
    ) -> jax.Array:
        def image(index: jax.Array) -> jax.Array:
            k_z, k_noise = jax.random.split(jax.random.fold_in(key, index))
            z = jax.random.normal(k_z, (1, net.z_dim))
            w: Any = net.apply({"params": params}, z, method="mapping")
            ws = truncate(jnp.broadcast_to(w[:, None], (1, layers, net.w_dim)), mean, psi, until)
            k_noise = k_noise if noise == "random" else None
            x: Any = net.apply({"params": params}, ws, k_noise, method="synthesis")
            return jnp.clip(jnp.round(x[0] * 127.5 + 127.5), 0, 255).astype(jnp.uint8)

        return jax.vmap(image)(indices)

    parts = []
    with Meter("images", n) as meter:
        for start in range(0, n, batch):
            indices = start + np.arange(batch)
            found = images(indices, jax.random.key(seed), params, jnp.asarray(mean), psi, until)
            parts.append(np.asarray(found))
            meter.update(min(start + batch, n))
    return np.concatenate(parts)[:n]
