"""Formulas of the classifiers' slots, again, in literal float64 NumPy: loops over examples."""

import numpy as np
import oracles


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(logits, labels):
    return np.array([-np.log(p[y]) for p, y in zip(softmax(logits), labels, strict=True)])


def binary(logits, labels):
    out = []
    for row, y in zip(logits, labels, strict=True):
        p = 1 / (1 + np.exp(-row))
        out.append(sum(-np.log(p[k] if k == y else 1 - p[k]) for k in range(len(row))))
    return np.array(out)


def focal(logits, labels, gamma):
    return np.array([-((1 - p[y]) ** gamma) * np.log(p[y])
                     for p, y in zip(softmax(logits), labels, strict=True)])  # fmt: skip


def hinge(logits, labels):
    return np.array([max(0.0, 1 + max(v for k, v in enumerate(row) if k != y) - row[y])
                     for row, y in zip(logits, labels, strict=True)])  # fmt: skip


def cvar(losses, weights, alpha):
    """The integral of the sorted losses over the worst mass alpha, in small steps of examples."""
    mass = np.asarray(weights, float) / np.sum(weights)
    total, left = 0.0, alpha
    for i in np.argsort(-np.asarray(losses)):
        used = min(mass[i], left)
        total, left = total + used * losses[i], left - used
    return total / alpha


def cvar_groups(means, shares, scores, alpha):
    """The published greedy filling; `means` None = absent."""
    total, left = 0.0, alpha
    for g in sorted(range(len(shares)), key=lambda g: -scores[g]):
        used = min(shares[g], left)
        total += used / alpha * (means[g] or 0.0)
        left -= used
    return total


def gap(logits, labels, attribute, values, kind):
    p = softmax(logits)
    n, c = p.shape

    def spread(klass, of):
        means = []
        for v in range(values):
            rows = [i for i in range(n) if attribute[i] == v and (of is None or labels[i] == of)]
            if rows:
                means.append(np.mean([p[i, klass] for i in rows]))
        return max(means) - min(means) if len(means) > 1 else 0.0

    if kind == "parity":
        return np.mean([spread(k, None) for k in range(c)])
    if kind == "odds":
        return np.mean([max(spread(k, of) for of in range(c)) for k in range(c)])
    own = [spread(k, k) for k in range(c)]
    return own[1] if c == 2 else np.mean(own)


def mmd(features, labels, attribute, classes, values):
    """Mean over pairs (class, value) of the squared MMD to all known examples of the class."""
    n = len(features)
    distance = np.array([[np.sum((features[i] - features[j]) ** 2) for j in range(n)]
                         for i in range(n)])  # fmt: skip
    width = distance.mean() + 1e-6
    kernel = sum(np.exp(-distance / (s * width)) for s in (0.25, 1.0, 4.0)) / 3
    found = []
    for y in range(classes):
        whole = [i for i in range(n) if labels[i] == y and attribute[i] >= 0]
        for v in range(values):
            part = [i for i in whole if attribute[i] == v]
            if part:
                k = lambda a, b: np.mean([[kernel[i, j] for j in b] for i in a])
                found.append(k(part, part) - 2 * k(part, whole) + k(whole, whole))
    return np.mean(found)


class GroupDro:
    """Group DRO on logistic regression, whole steps: the gradient by hand, coupled l2, momentum.

    Logits x K + b; all parameters get decay * theta; torch's momentum (v = m v + g, no damping).
    """

    def __init__(self, kernel, bias, q, sizes, *, eta, c, absent, rate, momentum, decay):
        self.theta = [np.array(kernel, np.float64), np.array(bias, np.float64)]
        self.velocity = [0 * t for t in self.theta]
        self.q, self.k = np.array(q, np.float64), len(q)
        self.adjustment = c / np.sqrt(np.asarray(sizes, np.float64))
        self.step = oracles.group_dro_skip if absent == "skip" else oracles.group_dro_zero
        self.eta, self.rate, self.momentum, self.decay = eta, rate, momentum, decay

    def update(self, x, y, g):
        """One batch; returns the loss sum over the present groups of q_g L_g, q just updated."""
        logits = x @ self.theta[0] + self.theta[1]
        means = oracles.group_losses(cross_entropy(logits, y), np.ones(len(y)), g, self.k)
        loss, self.q = self.step(means, self.q, self.eta, self.adjustment)
        p = softmax(logits)
        slope = np.zeros_like(p)
        for i in range(len(y)):
            of_i = p[i] - np.eye(p.shape[1])[y[i]]
            slope[i] = self.q[g[i]] / np.sum(g == g[i]) * of_i
        for j, grad in enumerate((x.T @ slope, slope.sum(0))):
            self.velocity[j] = self.momentum * self.velocity[j] + grad + self.decay * self.theta[j]
            self.theta[j] = self.theta[j] - self.rate * self.velocity[j]
        return loss


def generalised_cross_entropy(logits, labels, q):
    return np.array([(1 - p[y] ** q) / q for p, y in zip(softmax(logits), labels, strict=True)])


def invariance(risks):
    """The IRMv1 penalty of risks: functions of the factor of the logits, one per environment that
    is present; their slopes at 1 by central differences."""
    return np.mean([((risk(1 + 1e-5) - risk(1 - 1e-5)) / 2e-5) ** 2 for risk in risks])


class Lff:
    """LfF on two logistic regressions, whole steps: gradients by hand, l2 and momentum as above.

    The gradient of the generalised cross-entropy is p^q times that of the cross-entropy. Averages
    of losses are kept image by image, in dicts.
    """

    def __init__(self, biased, other, *, q, memory, rate, momentum, decay):
        self.theta = [[np.array(t, np.float64) for t in net] for net in (biased, other)]
        self.velocity = [[0 * t for t in net] for net in self.theta]
        self.seen = [{}, {}]  # image -> (its averaged loss, its class)
        self.q, self.memory = q, memory
        self.rate, self.momentum, self.decay = rate, momentum, decay

    def update(self, x, y, index):
        """One batch; returns the weights of its examples."""
        p = [softmax(x @ kernel + bias) for kernel, bias in self.theta]
        for k, seen in enumerate(self.seen):
            for image in {*index}:
                rows = [i for i in range(len(y)) if index[i] == image]
                now = np.mean([-np.log(p[k][i, y[i]]) for i in rows])
                before = seen[image][0] if image in seen else now
                seen[image] = (self.memory * before + (1 - self.memory) * now, y[rows[0]])
        largest = [{label: max(loss for loss, of in seen.values() if of == label) for label in y}
                   for seen in self.seen]  # fmt: skip
        pairs = list(zip(index, y, strict=True))
        scaled = [np.array([seen[image][0] / top[label] for image, label in pairs])
                  for seen, top in zip(self.seen, largest, strict=True)]  # fmt: skip
        weights = scaled[0] / (scaled[0] + scaled[1])
        factors = [[p[0][i, y[i]] ** self.q for i in range(len(y))], weights]
        for k in range(2):
            slope = [f * (row - np.eye(p[k].shape[1])[label]) / len(y)
                     for f, row, label in zip(factors[k], p[k], y, strict=True)]  # fmt: skip
            for j, grad in enumerate((x.T @ np.array(slope), np.sum(slope, 0))):
                theta, velocity = self.theta[k][j], self.velocity[k][j]
                velocity = self.momentum * velocity + grad + self.decay * theta
                self.velocity[k][j], self.theta[k][j] = velocity, theta - self.rate * velocity
        return weights
