"""The equations behind `gan.penalty`, again, in literal NumPy: float64, and analytic wherever no
threshold is crossed, so that complex steps give slopes that are exact.

Choi et al. 2020, eq. 2 (the distance, squared); Ganin et al. 2016 and Zhang et al. 2018 (the
adversary); dual ascent on a Lagrangian (Boyd and Vandenberghe 2004, section 5).
"""

import numpy as np


def softmax(logits):
    e = np.exp(logits)
    return e / e.sum(1, keepdims=True)


def squared_distance(p, target, unbiased=False):
    """|mean of the rows - target|^2, minus the variance of that mean by its textbook estimate."""
    n, k = p.shape
    total = 0
    for u in range(k):
        mean = sum(p[i, u] for i in range(n)) / n
        total = total + (mean - target[u]) ** 2
        if unbiased:
            variance = sum((p[i, u] - mean) ** 2 for i in range(n)) / (n - 1)
            total = total - variance / n
    return total


def multiplier(mu, distances, slack, rate):
    """mu after each of a series of distances."""
    out = []
    for distance in distances:
        mu = mu + rate * (distance - slack)
        mu = mu if mu > 0 else 0.0
        out.append(mu)
    return out


def cross_entropy(logits, labels):
    """Mean over the rows of -sum_u labels_u log q_u."""
    q = softmax(logits)
    total = 0
    for i in range(len(q)):
        for u in range(q.shape[1]):
            total = total - labels[i, u] * np.log(q[i, u])
    return total / len(q)


def entropy(shares):
    return -sum(s * np.log(s) for s in shares)


def leaky(x):
    return np.where(np.real(x) > 0, x, 0.2 * x)


def adversary(params, w):
    """Logits of the two hidden layers and the output layer."""
    for name in ("dense0", "dense1"):
        w = leaky(w @ params[name]["kernel"] + params[name]["bias"])
    return w @ params["out"]["kernel"] + params["out"]["bias"]


def linear_generator(g, z, z2, cut, noise):
    """(images [n, pixels], ws [n, layers, w_dim]) of `toy_gan.LinearGenerator`; layers from `cut`
    on have the style of the second latents."""
    matrix = g["matrix"]
    ws = np.stack([(z if layer < cut else z2) * g["scale"] for layer in range(len(matrix))], 1)
    images = g["bias"] + g["strength"] * noise
    for layer in range(len(matrix)):
        images = images + ws[:, layer] @ matrix[layer].T
    return images, ws


def linear_judge(kernel, bias, images):
    """Probabilities for images that are clipped to [-1, 1]."""
    x = np.where(np.real(images) > 1, 1.0, np.where(np.real(images) < -1, -1.0, images))
    return softmax(x @ kernel + bias)
