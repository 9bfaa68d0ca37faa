"""The papers' equations behind `objectives` and `train`, again, in literal float64 NumPy.

Written from the papers and independent of the package: loops where it uses matrices, the formula as
printed where it uses a rearranged one.
"""

import numpy as np


def weighted_hinge(real: np.ndarray, fake: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """(real term, fake term) of the discriminator's loss, Choi et al. 2020, section 3.3."""
    n = len(real)
    on_real = sum(w * max(0.0, 1.0 - d) for w, d in zip(weights, real, strict=True)) / n
    on_fake = sum(max(0.0, 1.0 + d) for d in fake) / len(fake)
    return on_real, on_fake


def group_losses(losses, weights, groups, k):
    """Weighted mean loss in each group; None where no example has weight."""
    means = []
    for g in range(k):
        members = [i for i in range(len(losses)) if groups[i] == g]
        mass = sum(weights[i] for i in members)
        means.append(sum(weights[i] * losses[i] for i in members) / mass if mass > 0 else None)
    return means


def group_dro_skip(means, q, eta, adjustment):
    """(loss, q): losses centred on the q-mean of the present groups, which keep their mass."""
    there = [g for g, mean in enumerate(means) if mean is not None]
    mass = sum(q[g] for g in there)
    score = {g: means[g] + adjustment[g] for g in there}
    centre = sum(q[g] * score[g] for g in there) / mass
    raised = {g: q[g] * np.exp(eta * (score[g] - centre)) for g in there}
    total = sum(raised.values())
    new = np.array(q, np.float64)
    for g in there:
        new[g] = mass * raised[g] / total
    return sum(new[g] * means[g] for g in there), new


def group_dro_zero(means, q, eta, adjustment):
    """(loss, q) of the published classifier code: an absent group has loss 0 and takes part."""
    filled = np.array([0.0 if mean is None else mean for mean in means])
    new = np.asarray(q, np.float64) * np.exp(eta * (filled + adjustment))
    new = new / new.sum()
    return float(filled @ new), new


def importance_weights(logits, is_reference, alpha, clip, normalise):
    """Ratio to the power alpha, capped, with mean 1 on the biased set; 1 on the reference set."""
    raw = [min(np.exp(float(v)) ** alpha, clip if clip else np.inf) for v in logits]
    biased = [r for r, reference in zip(raw, is_reference, strict=True) if not reference]
    mean = sum(biased) / len(biased) if normalise else 1.0
    return np.array(
        [1.0 if reference else r / mean for r, reference in zip(raw, is_reference, strict=True)]
    )


def effective_sample_size(weights):
    """1 / sum of squares of the normalised weights (Kish 1965)."""
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return 1 / np.sum(shares**2)


def bayes_log_loss(biased, reference):
    """Cross-entropy of the true posterior p(y | group), with p(y) = 1/2, summed over all cases."""
    loss = 0.0
    for b, r in zip(biased, reference, strict=True):
        if r > 0:
            loss -= 0.5 * r * np.log(0.5 * r / (0.5 * r + 0.5 * b))
        if b > 0:
            loss -= 0.5 * b * np.log(0.5 * b / (0.5 * r + 0.5 * b))
    return loss


class LazyAdam:
    """Adam (Kingma and Ba 2015, algorithm 1) on a vector, corrected for lazy regularisation.

    With a regulariser every k steps there are k + 1 updates where there were k: the learning rate
    is scaled by c = k / (k + 1) and the betas become beta ** c (Karras et al. 2020, appendix B).
    """

    def __init__(self, theta, learning_rate, beta1, beta2, every=None, eps=1e-8):
        c = 1.0 if every is None else every / (every + 1)
        self.theta = np.array(theta, np.float64)
        self.rate, self.b1, self.b2, self.eps = learning_rate * c, beta1**c, beta2**c, eps
        self.m, self.v, self.t = 0 * self.theta, 0 * self.theta, 0

    def update(self, gradient):
        """One step; returns the new parameters."""
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * gradient
        self.v = self.b2 * self.v + (1 - self.b2) * gradient**2
        m_hat, v_hat = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        self.theta = self.theta - self.rate * m_hat / (np.sqrt(v_hat) + self.eps)
        return self.theta


def moving_average(start, values, batch, half_life, ramp):
    """Average after each step of `values`; half_life in images, at most `ramp` of those seen."""
    average, out = np.array(start, np.float64), []
    for step, value in enumerate(values):
        images = min(half_life, ramp * step * batch) if ramp else half_life
        beta = 0.5 ** (batch / images) if images > 0 else 0.0
        average = beta * average + (1 - beta) * value
        out.append(average)
    return out


class QuadraticDiscriminator:
    """D(x) = a.x + s |x|^2 / 2 with all its derivatives by hand; x is [n, pixels]."""

    def __init__(self, a, s):
        self.a, self.s = np.asarray(a, np.float64), float(s)

    def __call__(self, x):
        return x @ self.a + self.s * (x**2).sum(1) / 2

    def hinge_gradient(self, x, fakes, weights):
        """d/d(a, s) of mean w relu(1 - D(x)) + mean relu(1 + D(fake))."""
        real = -(weights * (self(x) < 1)) / len(x)
        fake = (self(fakes) > -1) / len(fakes)
        da = real @ x + fake @ fakes
        ds = real @ ((x**2).sum(1) / 2) + fake @ ((fakes**2).sum(1) / 2)
        return np.concatenate([da, [ds]])

    def r1(self, x, gamma, weights):
        """(gamma/2 mean w |grad_x D|^2, its d/d(a, s)); grad_x D = a + s x."""
        slope = self.a + self.s * x
        value = gamma / 2 * np.mean(weights * (slope**2).sum(1))
        da = gamma * np.mean(weights[:, None] * slope, 0)
        ds = gamma * np.mean(weights * (slope * x).sum(1))
        return value, np.concatenate([da, [ds]])


def path_length_linear(matrices, directions):
    """|J^T y| of image = sum over layers of matrices[l] w_l, root mean square over the layers.

    matrices [layers, pixels, w_dim], directions [n, pixels] -> [n]; Karras et al. 2020, eq. 4.
    """
    out = []
    for y in directions:
        squares = [float((m.T @ y) @ (m.T @ y)) for m in matrices]
        out.append(np.sqrt(sum(squares) / len(squares)))
    return np.array(out)
