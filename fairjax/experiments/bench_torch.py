"""The other side of `launch/bench.py --against=pytorch`: an equal iteration in PyTorch.

Started by `bench_worker`, in an interpreter that has torch (and need not have fairjax). The
networks come from the user's checkout of the official stylegan2-ada-pytorch; the losses, phases and
optimiser steps are written here from the papers: Karras et al. 2020 ("Analyzing and improving the
image quality of StyleGAN", sections 3.2 and B), Mescheder et al. 2018 (R1), Lim and Ye 2017.
"""

import copy
import random
import sys
import time
import warnings


def losses(name):
    """(real, fake, generator) terms of logits, as `fairjax.objectives.losses` has them."""
    from torch.nn.functional import relu, softplus

    if name == "hinge":
        return (lambda x: relu(1 - x)), (lambda x: relu(1 + x)), (lambda x: -x)
    return (lambda x: softplus(-x)), softplus, (lambda x: softplus(-x))


class Peer:
    """Two networks, their optimisers and the four step programs on one fixed batch of bytes."""

    def __init__(self, shape):
        import torch
        from training import networks

        self.torch, self.shape, self.device = torch, shape, torch.device(shape["device"])
        torch.manual_seed(0)
        random.seed(0)
        clamp = shape["conv_clamp"] or None
        size, image = shape["resolution"], shape["channels"]
        half = shape["half_resolutions"]
        widths = {"channel_base": shape["channel_base"], "channel_max": shape["channel_max"]}
        self.g = networks.Generator(
            z_dim=shape["z_dim"], c_dim=0, w_dim=shape["w_dim"], img_resolution=size,
            img_channels=image, mapping_kwargs={"num_layers": shape["mapping_layers"]},
            synthesis_kwargs=dict(widths, num_fp16_res=half, conv_clamp=clamp,
                                  architecture=shape["g_architecture"]),
        ).train().to(self.device)  # fmt: skip
        group = shape["mbstd_group"]
        epilogue = {"mbstd_group_size": group} if group else {"mbstd_num_channels": 0}
        self.d = networks.Discriminator(
            c_dim=0, img_resolution=size, img_channels=image, num_fp16_res=half, conv_clamp=clamp,
            architecture=shape["d_architecture"], epilogue_kwargs=epilogue,
            **shape["d_widths"],
        ).train().to(self.device)  # fmt: skip
        self.ema = copy.deepcopy(self.g).eval().requires_grad_(False)
        self.real, self.fake, self.generator = losses(shape["loss"])
        path = shape["path_length_every"] if shape["path_length_weight"] > 0 else 0
        r1 = shape["r1_every"] if shape["r1_gamma"] > 0 else 0
        self.g_adam = self.adam(self.g, shape["learning_rate_g"], path)
        self.d_adam = self.adam(self.d, shape["learning_rate_d"], r1)
        bytes_of = (shape["batch"], image, size, size)
        self.images = torch.randint(0, 256, bytes_of, dtype=torch.uint8, device=self.device)
        self.pl_mean = torch.zeros((), device=self.device)
        self.programs = {
            "g": lambda: self.g_step(False),
            "g+path_length": lambda: self.g_step(True),
            "d": lambda: self.d_step(False),
            "d+r1": lambda: self.d_step(True),
        }

    def adam(self, network, rate, every):
        """Adam, corrected for a regulariser that runs every `every` steps (0 = never)."""
        c = every / (every + 1) if every else 1.0
        betas = (self.shape["beta1"] ** c, self.shape["beta2"] ** c)
        return self.torch.optim.Adam(network.parameters(), lr=rate * c, betas=betas, eps=1e-8)

    def styles(self, n):
        """ws [n, num_ws, w_dim]; one crossover for the batch, with the given probability."""
        z_dim = self.shape["z_dim"]
        draw = lambda: self.torch.randn(n, z_dim, device=self.device)
        ws = self.g.mapping(draw(), None)
        if self.shape["style_mixing"] > 0:
            other = self.g.mapping(draw(), None, skip_w_avg_update=True)
            layers = ws.shape[1]
            mixes = random.random() < self.shape["style_mixing"]
            cut = random.randrange(1, layers) if mixes else layers
            ws = self.torch.cat([ws[:, :cut], other[:, cut:]], 1)
        return ws

    def synthesised(self, ws):
        return self.g.synthesis(ws, fused_modconv=False, noise_mode="random")

    def update(self, optimiser, loss):
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def g_step(self, path_length):
        torch, shape = self.torch, self.shape
        self.g.requires_grad_(True)
        self.d.requires_grad_(False)
        logits = self.d(self.synthesised(self.styles(shape["batch"])), None)
        self.update(self.g_adam, self.generator(logits).mean())
        if path_length:
            ws = self.styles(max(shape["batch"] // 2, 1))
            images = self.synthesised(ws)
            y = torch.randn_like(images) / shape["resolution"]
            (slopes,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
            lengths = (slopes.square().sum(2).mean(1) + 1e-12).sqrt()
            mean = self.pl_mean + 0.01 * (lengths.mean() - self.pl_mean)
            penalty = (lengths - mean).square().mean()
            self.pl_mean = mean.detach()
            weight = shape["path_length_weight"] * shape["path_length_every"]
            self.update(self.g_adam, penalty * weight)
        beta = 0.5 ** (shape["batch"] / (shape["ema_kimg"] * 1000))
        with torch.no_grad():
            for average, value in zip(self.ema.parameters(), self.g.parameters()):  # noqa: B905
                average.lerp_(value, 1 - beta)
            for average, value in zip(self.ema.buffers(), self.g.buffers()):  # noqa: B905
                average.copy_(value)

    def d_step(self, r1):
        torch, shape = self.torch, self.shape
        self.g.requires_grad_(False)
        self.d.requires_grad_(True)
        x = self.images.to(torch.float32) / 127.5 - 1
        with torch.no_grad():
            fakes = self.synthesised(self.styles(shape["batch"]))
        on_real, on_fake = self.d(x, None), self.d(fakes, None)
        self.update(self.d_adam, self.real(on_real).mean() + self.fake(on_fake).mean())
        if r1:
            x = x.requires_grad_(True)
            (slopes,) = torch.autograd.grad(self.d(x, None).sum(), x, create_graph=True)
            penalty = 0.5 * shape["r1_gamma"] * slopes.square().sum((1, 2, 3)).mean()
            self.update(self.d_adam, penalty * shape["r1_every"])

    def time(self, program, times):
        """Seconds of `times` steps of a program, one after the other."""
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            self.programs[program]()
        self.wait()
        return time.perf_counter() - start

    def wait(self):
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def parameters(self):
        return [sum(p.numel() for p in network.parameters()) for network in (self.g, self.d)]


def keep_what_is_built():
    """Lets the checkout import its kernels by name after PyTorch has built them.

    Older versions of PyTorch left a built extension importable; newer ones only return it.
    """
    from torch.utils import cpp_extension

    build = cpp_extension.load

    def load(name, **kwargs):
        sys.modules[name] = build(name=name, **kwargs)
        return sys.modules[name]

    cpp_extension.load = load


def custom_kernels():
    """Whether the checkout's CUDA kernels were built; else it runs slow plain operations."""
    from torch_utils.ops import bias_act, upfirdn2d

    return bool(bias_act._init() and upfirdn2d._init())


def begin(request):
    """The peer and what it is, or a sentence about what is missing."""
    warnings.filterwarnings("ignore")
    try:
        import torch
    except ImportError as error:
        return None, {"error": f"{sys.executable} cannot import torch ({error})", "what": "torch"}
    torch.set_num_threads(request["threads"])
    torch.set_flush_denormal(True)
    if request["shape"]["device"] == "cuda":
        # As JAX does by default on such a card; the official code leaves TF32 off.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        keep_what_is_built()
    sys.path.insert(0, request["path"])
    try:
        peer = Peer(request["shape"])
    except Exception as error:  # whatever is wrong with somebody else's code is one line here
        words = f"its networks cannot be built ({type(error).__name__}: {error})"
        return None, {"error": words, "what": "networks"}
    facts = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if peer.device.type == "cuda":
        facts |= {"device": torch.cuda.get_device_name(), "custom_kernels": custom_kernels()}
    return peer, facts | {"threads": torch.get_num_threads(), "parameters": peer.parameters()}
