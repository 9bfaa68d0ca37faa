"""Pickles of the official code, imported: python tests/official_files.py --peer_path=DIR [..]

With a checkout of stylegan2-ada-pytorch in DIR and an interpreter that has PyTorch (--peer_python),
the official classes make generators and discriminators of every architecture, with and without
labels, with random numbers everywhere, and write pickles as the official training does. Each is
read by `network_files.read`, which runs nothing of it. Every array must be the same bit for bit;
images (fixed noise), logits, R1 and path length the same to 1e-5 of the largest value; the
gradients of the last two to 1e-4 of each array's largest value. Takes some minutes.
"""

import argparse
import itertools
import json
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

SIZE, CLASSES, BATCH = 16, 4, 4
OPTIONS = [
    {"g": g, "d": d, "c_dim": c_dim}
    for (g, d), c_dim in itertools.product(
        [("skip", "resnet"), ("resnet", "skip"), ("orig", "orig")], [0, CLASSES]
    )
]


def make(folder: Path) -> None:
    """The official side: options i -> i.pkl and what its networks compute, i.npz."""
    import copy

    import torch
    from training import networks

    for i, options in enumerate(OPTIONS):
        torch.manual_seed(i)
        common = {"c_dim": options["c_dim"], "img_resolution": SIZE, "img_channels": 3}
        widths = {"channel_base": 2048, "channel_max": 128}
        g = networks.Generator(
            z_dim=64, w_dim=64, mapping_kwargs={"num_layers": 3},
            synthesis_kwargs=widths | {"architecture": options["g"]}, **common,
        )  # fmt: skip
        d = networks.Discriminator(**common, **widths, architecture=options["d"])
        with torch.no_grad():
            for network in (g, d):
                for name, x in network.named_parameters():
                    if name.endswith(("bias", "noise_strength")):
                        x.add_(0.3 * torch.randn_like(x))
            g.mapping.w_avg.copy_(torch.randn(64))
        g, d = (copy.deepcopy(network).eval().requires_grad_(True) for network in (g, d))
        with (folder / f"{i}.pkl").open("wb") as file:
            pickle.dump({"G": None, "D": d, "G_ema": g}, file)

        states = {"G_ema": g.state_dict(), "D": d.state_dict()}
        arrays = {f"{name}/{key}": x.numpy() for name in states for key, x in states[name].items()}
        z = torch.randn(BATCH, 64)
        c = torch.eye(CLASSES)[torch.arange(BATCH) % CLASSES] if options["c_dim"] else None
        w = g.mapping(z, c)
        image = g.synthesis(w, noise_mode="const")
        direction = torch.randn_like(image)
        (slope,) = torch.autograd.grad((image * direction).sum(), w, create_graph=True)
        path = slope.square().sum(2).mean(1).sqrt().mean()
        real = torch.randn(BATCH, 3, SIZE, SIZE, requires_grad=True)
        logits = d(real, c)
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        r1 = slope.square().sum((1, 2, 3)).mean()
        computed = {"z": z, "image": image, "direction": direction, "real": real, "path": path,
                    "logits": logits[:, 0], "r1": r1}  # fmt: skip
        for name, network, loss in (("path", g, path), ("r1", d, r1)):
            network.zero_grad()
            loss.backward()
            for key, x in network.named_parameters():
                if x.grad is not None:
                    computed[f"grad_{name}/{key}"] = x.grad
        found = {f"computed/{key}": x.detach().numpy() for key, x in computed.items()}
        np.savez(folder / f"{i}.npz", **arrays, **found)


def compare(folder: Path, i: int) -> dict[str, float]:
    """Our side: the number of equal arrays, and the largest differences."""
    import jax
    import jax.numpy as jnp

    from fairjax.models.initialize import FAST_COMPILE
    from fairjax.models.published import build, our_layout, published_name
    from fairjax.models.stylegan2 import num_ws
    from fairjax.train import network_files

    theirs = dict(np.load(folder / f"{i}.npz"))

    def below(name):
        start = f"{name}/"
        return {key.removeprefix(start): x for key, x in theirs.items() if key.startswith(start)}

    saved = network_files.read(folder / f"{i}.pkl")
    count = 0
    for name, network in network_files.to_published(saved).items():
        wanted = below(name)
        assert network.arrays.keys() == wanted.keys(), (name, network.arrays.keys() ^ wanted.keys())
        for key, x in network.arrays.items():
            if not key.endswith("resample_filter"):  # ours is computed
                assert (x.dtype, x.tobytes()) == (wanted[key].dtype, wanted[key].tobytes()), key
                count += 1

    of = below("computed")
    g, d = build("Generator", saved.g_fields), build("Discriminator", saved.d_fields)
    c = jnp.eye(CLASSES)[jnp.arange(BATCH) % CLASSES] if saved.g_fields["c_dim"] else None
    turned = {key: of[key].transpose(0, 2, 3, 1) for key in ("image", "direction", "real")}

    def latents(params):
        w = g.apply({"params": params}, of["z"], c, method="mapping")
        return jnp.repeat(w[:, None], num_ws(SIZE), 1)

    def synthesis(params, ws):
        return g.apply({"params": params, "buffers": saved.buffers}, ws, None, "const",
                       method="synthesis")  # fmt: skip

    def path(params):
        slope = jax.grad(lambda ws: jnp.sum(synthesis(params, ws) * turned["direction"]))
        squares = jnp.sum(jnp.square(slope(latents(params))), 2)
        return jnp.mean(jnp.sqrt(jnp.mean(squares, 1)))

    def r1(params):
        slope = jax.grad(lambda x: jnp.sum(d.apply({"params": params}, x, c)))(turned["real"])
        return jnp.mean(jnp.sum(jnp.square(slope), (1, 2, 3)))

    @partial(jax.jit, compiler_options=FAST_COMPILE)
    def ours(ema, d_params):
        return {
            "image": synthesis(ema, latents(ema)),
            "logits": d.apply({"params": d_params}, turned["real"], c),
            "path": jax.value_and_grad(path)(ema),
            "r1": jax.value_and_grad(r1)(d_params),
        }

    found = ours(saved.ema, saved.d)

    def apart(x, y):
        return float(np.abs(np.asarray(x) - y).max() / np.abs(y).max())

    result = {"arrays": count, "image": apart(found["image"], turned["image"]),
              "logits": apart(found["logits"], of["logits"])}  # fmt: skip
    for name in ("path", "r1"):
        value, gradients = found[name]
        result[name] = apart(value, of[name])
        differences = []
        for key, x in network_files.flat(gradients).items():
            y = of.get(f"grad_{name}/{published_name('params/' + key)}")
            if y is not None and np.abs(y).max() > 0:
                differences.append(apart(x, our_layout(key, y)))
        assert len(differences) > 10
        result[f"gradient of {name}"] = max(differences)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer_path", required=True, help="checkout of stylegan2-ada-pytorch")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter with PyTorch")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        sys.path.insert(0, args.peer_path)
        make(args.make)
        return
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([args.peer_python, __file__, f"--peer_path={args.peer_path}",
                        f"--make={name}"], check=True)  # fmt: skip
        worst: dict[str, float] = {}
        for i, options in enumerate(OPTIONS):
            found = compare(Path(name), i)
            print(json.dumps(options | {key: float(f"{x:.2g}") if x < 1 else x
                                        for key, x in found.items()}), flush=True)  # fmt: skip
            worst = {key: max(x, worst.get(key, 0.0)) for key, x in found.items()}
    del worst["arrays"]
    over = {key: x for key, x in worst.items() if x > (1e-4 if "gradient" in key else 1e-5)}
    print("all within the limits" if not over else f"over the limits: {over}")
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
