"""The losses of an OccamNet in float64, one image and one exit at a time, from the paper's text."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Losses:
    """What must be remembered between batches is kept as the words say: by image and by epoch."""

    def __init__(self, classes, thresholds, gamma0=3.0, gamma=1.0, factor=0.1):
        self.classes, self.thresholds = classes, thresholds
        self.gamma0, self.gamma, self.factor = gamma0, gamma, factor
        self.remembered = [{} for _ in thresholds]
        self.epoch = -1

    def __call__(self, logits, gates, maps, target, index, epoch):
        """(output prediction loss of each image, weights [b, exits], all other losses)."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.largest = [0.0 for _ in self.thresholds]
            self.outcomes = [[[] for _ in range(self.classes)] for _ in self.thresholds]
        b, exits = logits.shape[:2]
        each, weights, others = np.zeros(b), np.zeros((b, exits)), 0.0
        for j in range(exits):
            for i in range(b):
                p = softmax(logits[i, 0])[target[i]]
                kept = 1 - sigmoid(gates[i, j - 1])
                weights[i, j] = p**self.gamma0 if j == 0 else kept**self.gamma
            self.largest[j] = max(self.largest[j], weights[:, j].max())
            for i in range(b):
                entropy = -np.log(softmax(logits[i, j])[target[i]])
                each[i] += (weights[i, j] / (self.largest[j] + 1e-5) + 0.1) * entropy
            others += self.factor * self._suppression(maps[j], target)
            others += self._gate(j, logits[:, j], gates[:, j], target, index, epoch == 0)
        return each, weights / (np.array(self.largest) + 1e-5) + 0.1, others

    def _suppression(self, maps, target):
        found = []
        for image, y in zip(maps, target, strict=True):
            mean = image[..., y].mean()
            for cell in image.reshape(-1, self.classes):
                p, u = softmax(cell), 1 / self.classes
                inside = cell[y] > mean
                found.append(0.0 if inside else sum(u * np.log(u / q) for q in p))
        return np.mean(found)

    def _gate(self, j, logits, gates, target, index, first):
        right = logits.argmax(-1) == target
        for y, r in zip(target, right, strict=True):
            self.outcomes[j][y].append(r)
        accuracy = np.mean([np.mean(o) for o in self.outcomes[j] if o])
        leaves = []
        for i, r in zip(index, right, strict=True):
            if first or accuracy <= self.thresholds[j] or i not in self.remembered[j]:
                self.remembered[j][i] = bool(r)
            leaves.append(self.remembered[j][i])
        counts = {True: sum(leaves), False: len(leaves) - sum(leaves)}
        total = 0.0
        for g, leaf in zip(gates, leaves, strict=True):
            p = sigmoid(g) if leaf else 1 - sigmoid(g)
            total -= np.log(p) / np.sqrt(counts[leaf] / max(counts.values()) + 1e-5)
        return total / len(gates)


def leaves_by(gates):
    """The exit of each image: the first of 1 and 2 whose gate says at least a half, else 3."""
    return [next((j for j in (1, 2) if sigmoid(row[j]) >= 0.5), 3) for row in gates]
