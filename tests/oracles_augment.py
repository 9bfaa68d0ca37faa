"""ADA's augmentations again, in literal float64 NumPy, from appendix B of the paper.

Karras et al., 2020, "Training generative adversarial networks with limited data": matrices are
multiplied one by one and inverted numerically, colours have four homogeneous coordinates, and an
image is sampled from a copy that is padded far beyond every place that is read.
"""

import numpy as np


def move(x, y):
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def stretch(x, y):
    return np.diag([x, y, 1.0])


def turn(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def geometry(d, size):
    """Forward matrix of one image: what is drawn is applied in the order of the paper."""
    g = np.eye(3)
    g = stretch(d.get("xflip", 1), 1) @ g
    g = turn(-np.pi / 2 * d.get("rot90", 0)) @ g
    tx, ty = d.get("xint", (0, 0))
    g = move(np.round(tx * size), np.round(ty * size)) @ g
    g = stretch(d.get("scale", 1), d.get("scale", 1)) @ g
    before, after = d.get("rotate", (0, 0))
    g = turn(-before) @ g
    g = stretch(d.get("aniso", 1), 1 / d.get("aniso", 1)) @ g
    g = turn(-after) @ g
    tx, ty = d.get("xfrac", (0, 0))
    return move(tx * size, ty * size) @ g


def colour(d):
    """4 x 4 matrix of one image on (r, g, b, 1)."""
    v = np.array([1, 1, 1]) / np.sqrt(3)

    def lifted(m, offset=0.0):
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = m, offset
        return out

    eye, luma = np.eye(3), np.outer(v, v)
    c = lifted(eye, d.get("brightness", 0))
    c = lifted(eye * d.get("contrast", 1)) @ c
    c = lifted(eye - 2 * luma * (d.get("lumaflip", 1) < 0)) @ c
    t = d.get("hue", 0.0)
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])  # v x, Rodrigues
    c = lifted(eye + np.sin(t) * k + (1 - np.cos(t)) * k @ k) @ c
    return lifted(luma + (eye - luma) * d.get("saturation", 1)) @ c


def sample(image, forward, taps):
    """Image [s, s, c] under a 3 x 3 forward matrix: up by two, bilinear, down by two."""
    size, pad = len(image), 4 * len(image)
    inverse, centre = np.linalg.inv(forward), (size - 1) / 2
    wide = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    for axis in (0, 1):
        zeros = np.zeros_like(wide)
        wide = np.stack([wide, zeros], axis + 1).reshape(
            [2 * n if a == axis else n for a, n in enumerate(wide.shape)]
        )
        wide = sum(np.sqrt(2) * t * np.roll(wide, k - 5, axis) for k, t in enumerate(taps))
    fine = np.arange(-5, 2 * size + 5)
    out = np.empty((len(fine), len(fine), image.shape[2]))
    for i, v in enumerate(fine):
        for j, u in enumerate(fine):
            x, y, _ = inverse @ (u / 2 - centre, v / 2 - centre, 1)
            x, y = (2 * (n + centre) + 2 * pad for n in (x, y))
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            a, b = x - x0, y - y0
            out[i, j] = (
                (1 - a) * (1 - b) * wide[y0, x0] + a * (1 - b) * wide[y0, x0 + 1]
                + (1 - a) * b * wide[y0 + 1, x0] + a * b * wide[y0 + 1, x0 + 1]
            )  # fmt: skip
    for axis in (0, 1):
        parts = [
            t / np.sqrt(2) * np.take(out, 2 * np.arange(size) + k, axis) for k, t in enumerate(taps)
        ]
        out = sum(parts)
    return out


def band_gain(d):
    """Gain of the four bands of one image: each amplification is normalised by itself."""
    power, total = np.array([10, 1, 1, 1]) / 13, np.ones(4)
    for i in range(4):
        gain = np.ones(4)
        gain[i] = d.get(f"band{i + 1}", 1)
        total = total * gain / np.sqrt((power * gain**2).sum())
    return total


def band_response(omega, taps):
    """|frequency response| of the four bands, from the two half-band filters of the wavelet."""

    def low(w):
        return abs(sum(t * np.exp(-1j * w * k) for k, t in enumerate(taps))) ** 2 / 2

    def high(w):
        return low(w + np.pi)

    first, second = low(omega), low(2 * omega)
    return np.array([first * second * low(4 * omega), first * second * high(4 * omega),
                     first * high(2 * omega), high(omega)])  # fmt: skip


def square(d, size):
    """True where cutout puts a zero, of one image."""
    if "cutout" not in d:
        return np.zeros((size, size), bool)
    x, y, side = d["cutout"]
    return np.array([[abs((j + 0.5) / size - x) < side / 2 and abs((i + 0.5) / size - y) < side / 2
                      for j in range(size)] for i in range(size)])  # fmt: skip


def spatial(d, size, taps):
    """Geometry of one image as a matrix [pixels, pixels]."""
    basis = np.eye(size * size).reshape(size, size, -1)
    return sample(basis, geometry(d, size), taps).reshape(size * size, -1)


class AugmentedQuadratic:
    """D(x) = a.y + s |y|^2 / 2 of y = M x + b, with a matrix and a vector per image; x [n, pixels].

    Derivatives by hand: grad_x D = M^T (a + s y).
    """

    def __init__(self, a, s, m, b):
        self.a, self.s, self.m, self.b = np.asarray(a, np.float64), float(s), m, b

    def seen(self, x):
        return np.einsum("nij,nj->ni", self.m, x) + self.b

    def r1(self, x, gamma):
        """(gamma/2 mean |grad_x D|^2, its d/d(a, s))."""
        y = self.seen(x)
        slope = np.einsum("nij,ni->nj", self.m, self.a + self.s * y)
        back = np.einsum("nij,nj->ni", self.m, slope)  # d slope / da = M^T
        value = gamma / 2 * np.mean((slope**2).sum(1))
        return value, gamma * np.append(back.mean(0), np.mean((back * y).sum(1)))
