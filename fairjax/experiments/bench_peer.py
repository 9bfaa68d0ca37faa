"""Starts and asks the PyTorch side of `launch/bench.py --against=..`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from ml_collections import ConfigDict

from fairjax.config import d_widths
from fairjax.errors import InputError

WORKER, STEPS, FIDELITY, LOADER = (
    Path(__file__).with_name(f"bench_{name}.py")
    for name in ("worker", "torch", "fidelity", "loader")
)
NETWORKS = "training/networks.py"
SHAPE = ("batch", "z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max", "d_width",
         "half_resolutions", "g_architecture", "d_architecture", "mbstd_group", "conv_clamp",
         "loss", "r1_gamma", "r1_every", "path_length_weight", "path_length_every", "style_mixing",
         "learning_rate_g", "learning_rate_d", "beta1", "beta2", "ema_kimg")  # fmt: skip


# What a worker lacks: (flag, how to mend it).
MENDS = {
    "torch": ("--against", 'pip install -e ".[peer]", or give --peer_python, an interpreter that '
              "has torch"),
    "networks": ("--peer_path", "Use a clean checkout and a Python that it runs with"),
    "torch-fidelity": ("--against", "pip install torch-fidelity there, or give --peer_python"),
}  # fmt: skip


class Worker:
    """A program on the other side; a context manager. Between two questions it waits in a read.

    Args:
      script: what it times, see `bench_worker`.
      python: interpreter that has torch; "" = this one.
      request: the first question; the answer is `facts`.

    Raises:
      InputError: no interpreter, or something that it lacks.
    """

    def __init__(self, script: Path, python: str, request: dict[str, Any]):
        self.python = python or sys.executable
        # Threads that spin at the end of every parallel loop would slow down whatever else runs:
        # our side while it is timed and, on a machine that is not idle, PyTorch itself.
        environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
        try:
            self._process = subprocess.Popen(
                [self.python, str(WORKER), str(script)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True, env=environment,
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                f"{self.python} cannot be started ({error.strerror})",
                "--peer_python",
                "Give the interpreter of an environment that has torch",
            ) from error
        try:
            self.facts = self.ask(request)
            self.facts["omp_wait_policy"] = environment["OMP_WAIT_POLICY"]
        except BaseException:
            self.close()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One question, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise InputError(
                f"the worker ended (exit code {self._process.wait()}); its words are above",
                "--against",
                "Look at them; memory may be short",
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"], *MENDS[answer["what"]])
        return answer

    def __call__(self, program: str, times: int) -> float:
        """Seconds of `times` steps of a program, one after the other."""
        return float(self.ask({"program": program, "times": times})["seconds"])

    def close(self) -> None:
        """Ends the worker."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass  # it is gone already
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Peer(Worker):
    """The training steps of an arm in the networks of a checkout.

    Args:
      path: checkout of stylegan2-ada-pytorch.
      python: interpreter that has torch; "" = this one.
      config: the arm that both sides train.
      threads: number of threads for torch.
      device: "cpu", or "cuda" with float16 where ours has bfloat16.

    Raises:
      InputError: no checkout, no interpreter, no torch, or networks that cannot be built.
    """

    def __init__(self, path: str, python: str, config: ConfigDict, threads: int, device: str):
        folder = Path(path).expanduser().resolve()
        if not path or not (folder / NETWORKS).is_file():
            raise InputError(
                f"no checkout of stylegan2-ada-pytorch in {path!r} (it has no {NETWORKS})",
                "--peer_path",
                "Clone https://github.com/NVlabs/stylegan2-ada-pytorch and give its folder",
            )
        shape = {"resolution": config.data.resolution, "channels": config.data.channels}
        shape |= {name: config.gan[name] for name in SHAPE}
        base, most = d_widths(config.gan)
        shape |= {"device": device, "d_widths": {"channel_base": base, "channel_max": most}}
        super().__init__(STEPS, python, {"threads": threads, "path": str(folder), "shape": shape})


def fidelity(python: str, shape: dict[str, int], threads: int) -> Worker:
    """torch-fidelity's Inception-v3 and distances, of the sizes of `bench_features`."""
    return Worker(FIDELITY, python, {"threads": threads, "shape": shape})


def loader(python: str, files: dict[str, Any]) -> Worker:
    """PyTorch's DataLoader on the files of `bench_input`, in one thread."""
    return Worker(LOADER, python, {"threads": 1, "files": files})
