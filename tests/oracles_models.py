"""Independent float64 NumPy derivations of the networks' operations, by loops over pixels.

They also take complex parameters and inputs, so that a complex step gives exact derivatives.
"""

import numpy as np

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def fir(x, before, after, gain=1.0, taps=TAPS):
    """Correlation of every channel with the (symmetric) taps after zero padding."""
    n, h, w, c = x.shape
    padded = np.zeros((n, h + before + after, w + before + after, c), x.dtype)
    padded[:, before : before + h, before : before + w] = x
    size = taps.shape[0]
    out = np.zeros((n, padded.shape[1] - size + 1, padded.shape[2] - size + 1, c), x.dtype)
    for r in range(out.shape[1]):
        for s in range(out.shape[2]):
            window = padded[:, r : r + size, s : s + size]
            out[:, r, s] = gain * np.einsum("nabc,ab->nc", window, taps)
    return out


def zeros_between(x):
    n, h, w, c = x.shape
    out = np.zeros((n, 2 * h, 2 * w, c), x.dtype)
    out[:, ::2, ::2] = x
    return out


def image_up(x):
    return fir(zeros_between(x), 2, 1, gain=4.0)


def image_down(x):
    return fir(x, 1, 1)[:, ::2, ::2]


def correlate(x, kernel, pad=None, stride=1):
    """Plain correlation, zero padding `pad` ((top, bottom), (left, right)), default same size."""
    k = kernel.shape[0]
    pad = ((k // 2, k // 2),) * 2 if pad is None else pad
    x = np.pad(x, ((0, 0), *pad, (0, 0)))
    h, w = ((x.shape[i] - k) // stride + 1 for i in (1, 2))
    out = np.zeros((x.shape[0], h, w, kernel.shape[3]), np.result_type(x, kernel, np.float64))
    for r in range(h):
        for s in range(w):
            window = x[:, r * stride : r * stride + k, s * stride : s * stride + k]
            out[:, r, s] = np.einsum("nabi,abio->no", window, kernel)
    return out


def scatter_up(x, kernel):
    """Stride-2 transposed convolution: each pixel adds its patch, [n, 2h + 1, 2w + 1, o]."""
    n, h, w, _ = x.shape
    out = np.zeros((n, 2 * h + 1, 2 * w + 1, kernel.shape[3]), np.result_type(x, kernel))
    for r in range(h):
        for s in range(w):
            patch = np.einsum("ni,abio->nabo", x[:, r, s], kernel)
            out[:, 2 * r : 2 * r + 3, 2 * s : 2 * s + 3] += patch
    return out


def conv_up(x, kernel):
    return fir(scatter_up(x, kernel), 1, 1, gain=4.0)


def conv_down(x, kernel):
    return correlate(fir(x, 2, 2), kernel, pad=((0, 0), (0, 0)), stride=2)


def modulated_conv(x, weight, styles, up=False, demodulate=True):
    """One kernel per sample: w'' of Karras et al. 2020, eq. 1 and 3."""
    out = []
    for sample, style in zip(x, styles, strict=True):
        w = weight * style[None, None, :, None]
        if demodulate:
            w = w / np.sqrt((w**2).sum((0, 1, 2)) + 1e-8)
        out.append((conv_up if up else correlate)(sample[None], w)[0])
    return np.stack(out)


def minibatch_stddev(x, group, features, strided, weights=None):
    """With weights: the mean of a discrete distribution over the group, and its variance divided
    by its expectation for a unit variance, times that of equal weights."""
    n, h, w, c = x.shape
    group = min(group, n)
    groups = n // group
    out = np.concatenate([x, np.zeros((n, h, w, features))], -1)
    width = c // features
    for g in range(groups):
        members = range(g, n, groups) if strided else range(g * group, (g + 1) * group)
        for f in range(features):
            part = x[list(members), :, :, f * width : (f + 1) * width]
            shares = np.ones(group) if weights is None else weights[list(members)]
            shares = (shares / shares.sum()).reshape(-1, 1, 1, 1)
            centre = (shares * part).sum(axis=0)
            variance = (shares * (part - centre) ** 2).sum(axis=0)
            if group > 1:
                variance = variance * (1 - 1 / group) / (1 - (shares**2).sum())
            value = np.sqrt(variance + 1e-8).mean()
            out[list(members), :, :, c + f] = value
    return out


def leaky(x):
    return np.where(np.real(x) > 0, x, 0.2 * x) * np.sqrt(2)


def dense(p, x, lr_mult=1.0):
    return x @ (p["weight"] * lr_mult / np.sqrt(x.shape[1])) + p["bias"] * lr_mult


def second_moment(x):
    return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)


def mapping(p, z, c=None):
    parts = [] if z is None else [second_moment(z)]
    if c is not None:
        parts.append(second_moment(dense(p["embed"], c)))
    x = np.concatenate(parts, 1)
    for i in range(len([name for name in p if name.startswith("fc")])):
        x = leaky(dense(p[f"fc{i}"], x, 0.01))
    return x


def clip(x, limit):
    return x if limit is None else np.clip(x, -limit, limit)


def synthesis(p, noise, ws, architecture="skip", clamp=None):
    """The generator, written out block by block; `noise` has fixed images."""

    def layer(name, block, x, w, up, gain=1.0):
        q = p[block][name]
        y = modulated_conv(x, q["weight"], dense(q["affine"], w), up=up)
        fixed = noise[block][name]["noise_const"]
        fixed = fixed[None, :, :, None] if fixed.ndim == 2 else fixed  # or one for each sample
        y = leaky(y + fixed * q["noise_strength"] + q["bias"]) * gain
        return clip(y, None if clamp is None else clamp * gain)

    def rgb(block, x, w):
        q = p[block]["torgb"]
        styles = dense(q["affine"], w) / np.sqrt(x.shape[-1])
        y = modulated_conv(x, q["weight"], styles, demodulate=False) + q["bias"]
        return clip(y, clamp)

    blocks = sorted(p, key=lambda name: int(name[1:]))
    x = np.repeat(p["b4"]["const"][None], ws.shape[0], 0)
    x = layer("conv1", "b4", x, ws[:, 0], False)
    image = rgb("b4", x, ws[:, 1]) if architecture == "skip" else None
    at = 1  # the style of a block's first convolution is also that of the image before it
    for block in blocks[1:]:
        if architecture == "resnet":
            skip = p[block]["skip"]["weight"]
            y = image_up(correlate(x, skip / np.sqrt(skip.shape[2]))) * np.sqrt(0.5)
            x = layer("conv0", block, x, ws[:, at], True)
            x = y + layer("conv1", block, x, ws[:, at + 1], False, np.sqrt(0.5))
        else:
            x = layer("conv0", block, x, ws[:, at], True)
            x = layer("conv1", block, x, ws[:, at + 1], False)
        if architecture == "skip":
            image = image_up(image) + rgb(block, x, ws[:, at + 2])
        elif block == blocks[-1]:
            image = rgb(block, x, ws[:, at + 2])
        at += 2
    return image


def discriminator(p, image, group, architecture="resnet", c=None, clamp=None, strided=True,
                  weights=None):  # fmt: skip
    """The discriminator, with strided minibatch standard deviation unless told otherwise."""

    def conv(q, x, how=correlate):
        weight = q["weight"] / np.sqrt(np.prod(q["weight"].shape[:3]))
        return how(x, weight) + q.get("bias", 0.0)

    def active(x, gain=1.0):
        return clip(leaky(x) * gain, None if clamp is None else clamp * gain)

    x = 0.0
    for block in sorted((name for name in p if name not in ("b4", "mapping")),
                        key=lambda name: -int(name[1:])):  # fmt: skip
        q = p[block]
        if "fromrgb" in q:
            x = x + active(conv(q["fromrgb"], image))
        if architecture == "skip":
            image = image_down(image)
        if architecture == "resnet":
            skip = conv(q["skip"], image_down(x)) * np.sqrt(0.5)
            x = active(conv(q["conv0"], x))
            x = active(conv(q["conv1"], x, conv_down), np.sqrt(0.5)) + skip
        else:
            x = active(conv(q["conv1"], active(conv(q["conv0"], x)), conv_down))
    b4 = p["b4"]
    if architecture == "skip":
        x = x + leaky(conv(b4["fromrgb"], image))  # the only layer without a clamp
    x = minibatch_stddev(x, group, 1, strided, weights)
    x = active(conv(b4["conv"], x))
    flat = np.stack([sample.transpose(2, 0, 1).ravel() for sample in x])
    out = dense(b4["out"], leaky(dense(b4["fc"], flat)))
    if c is None:
        return out[:, 0]
    label = mapping(p["mapping"], None, c)
    return (out * label).sum(1) / np.sqrt(label.shape[1])


def same_padding(size, kernel, stride):
    """TensorFlow's "SAME": the smaller half of the padding comes first."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def efficientnet_lite0(t, x, stages):
    """Of the scaled images, from the package's tensors, nothing folded: features [n, 1280], and the
    means over pixels of the images, of the stem and of each stage [n, 819]."""

    def norm(name, x):
        v = {k: t[f"{name}.{k}"].astype(np.float64) for k in ("weight", "bias")}
        m = {k: t[f"{name}.running_{k}"].astype(np.float64) for k in ("mean", "var")}
        return (x - m["mean"]) / np.sqrt(m["var"] + 1e-3) * v["weight"] + v["bias"]

    def conv(name, x, stride=1):
        kernel = t[f"{name}.weight"].astype(np.float64).transpose(2, 3, 1, 0)
        pad = [same_padding(x.shape[i], kernel.shape[0], stride) for i in (1, 2)]
        return correlate(x, kernel, pad, stride)

    def depthwise(name, x, stride):
        weight = t[f"{name}.weight"].astype(np.float64)  # [c, 1, k, k]
        k = weight.shape[2]
        pad = [same_padding(x.shape[i], k, stride) for i in (1, 2)]
        h, w = (-(-x.shape[i] // stride) for i in (1, 2))
        padded = np.pad(x, ((0, 0), *pad, (0, 0)))
        out = np.zeros((x.shape[0], h, w, x.shape[3]))
        for r in range(h):
            for s in range(w):
                window = padded[:, r * stride : r * stride + k, s * stride : s * stride + k]
                out[:, r, s] = np.einsum("nabc,cab->nc", window, weight[:, 0])
        return out

    relu6 = lambda v: np.clip(v, 0, 6)
    levels = [x.mean((1, 2))]
    x = relu6(norm("_bn0", conv("_conv_stem", x, 2)))
    levels.append(x.mean((1, 2)))
    i = 0
    for _, stride, expand, _, repeats in stages:
        for repeat in range(repeats):
            name, y = f"_blocks.{i}.", x
            if expand > 1:
                y = relu6(norm(name + "_bn0", conv(name + "_expand_conv", y)))
            y = depthwise(name + "_depthwise_conv", y, 1 if repeat else stride)
            y = relu6(norm(name + "_bn1", y))
            y = norm(name + "_bn2", conv(name + "_project_conv", y))
            x = x + y if repeat else y
            i += 1
        levels.append(x.mean((1, 2)))
    return relu6(norm("_bn1", conv("_conv_head", x))).mean((1, 2)), np.concatenate(levels, 1)


def resnet(t, x, blocks):
    """He et al. 2015, table 1, from tensors with torchvision's names, of normalised images:
    features [n, d]. Blocks with a third convolution are bottlenecks, with the stride on the
    second."""

    def norm(name, x):
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, bias = (t[f"{name}.{part}"].astype(np.float64) for part in parts)
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def conv(name, x, stride):
        kernel = t[f"{name}.weight"].astype(np.float64).transpose(2, 3, 1, 0)
        return correlate(x, kernel, ((kernel.shape[0] // 2,) * 2,) * 2, stride)

    relu = lambda x: np.maximum(x, 0)
    x = relu(norm("bn1", conv("conv1", x, 2)))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    h, w = ((size + 1) // 2 for size in x.shape[1:3])
    x = np.stack([np.stack([padded[:, 2 * r : 2 * r + 3, 2 * s : 2 * s + 3].max((1, 2))
                            for s in range(w)], 1) for r in range(h)], 1)  # fmt: skip
    for stage, count in enumerate(blocks):
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            strided = 2 if f"{name}.conv3.weight" in t else 1
            y, last = x, strided + 1
            for i in range(1, last + 1):
                y = norm(f"{name}.bn{i}", conv(f"{name}.conv{i}", y, stride if i == strided else 1))
                y = relu(y) if i < last else y
            if f"{name}.downsample.0.weight" in t:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            x = relu(x + y)
    return x.mean((1, 2))
