"""What samples are measured with, during training and at its end: judges, features, references."""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.decode import opaque
from fairjax.data.prepare import Dataset
from fairjax.evaluate import features
from fairjax.evaluate.distances import kid_figure
from fairjax.evaluate.fairness import fairness_figures
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.neighbours import memorisation_figure, nearest
from fairjax.evaluate.quality import Part, by_class, overall, within
from fairjax.evaluate.smoothness import path_length_figure
from fairjax.experiments.judge_stage import Judge, errors_of
from fairjax.experiments.ratio_stage import RatioScore
from fairjax.experiments.stages import read_json
from fairjax.models import random_features

ENOUGH = 3  # images per set below which a kernel distance does not exist


class Yardstick:
    """Loads the judges of a workdir and the held-out images; measures samples against them."""

    def __init__(self, workdir: Path, config: ConfigDict, dataset: Dataset):
        self._workdir, self._config, self._dataset = workdir, config, dataset
        self._judges: list[Judge] = []
        for names in map(tuple, config.judge.attribute_sets):
            errors = errors_of(read_json(workdir / "judge" / "+".join(names) / "summary.json"))
            self._judges.append(Judge(workdir, config, dataset, names, errors))
        roles = dataset.roles
        self._reference = roles["metric_reference"]
        test = roles["ratio_test"]
        self._held = {
            "reference": test[dataset.domain[test] == 1],
            "biased": test[dataset.domain[test] == 0],
        }
        if len(self._reference) < ENOUGH:  # too few images for a metric set of their own
            self._reference = self._held["reference"]
        self._judged_reference = [judge(self._images(self._reference)) for judge in self._judges]
        self._random_reference = self._random(self._images(self._reference))

    def _images(self, positions: np.ndarray) -> np.ndarray:
        return self._dataset.images[positions]

    def _random(self, images: np.ndarray) -> np.ndarray:
        if not len(images):
            return np.zeros((0, random_features.size()))
        return np.asarray(random_features.features(opaque(images)), np.float64)

    def judged(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Samples uint8 [n, H, W, C] -> {judge's label: probabilities [n, k]}."""
        return {judge.label: judge(samples) for judge in self._judges}

    def fairness(self, judged: dict[str, np.ndarray], draws: int = 1000) -> Iterator[Figure]:
        """Shares and discrepancies of what `judged` returned, for every judge."""
        for judge, on_reference in zip(self._judges, self._judged_reference, strict=True):
            classes = self._dataset.classes(judge.names, self._reference)
            yield from fairness_figures(
                judged[judge.label], judge.errors, on_reference, classes, judge.label, draws=draws
            )

    def cheap_quality(self, samples: np.ndarray) -> Iterator[Figure]:
        """KID to the metric reference in fixed random features; for use during training."""
        if len(self._random_reference) >= ENOUGH:
            yield kid_figure("kid/random_conv", self._random(samples), self._random_reference)

    def quality(self, samples: np.ndarray, judged: dict[str, np.ndarray]) -> Iterator[Figure]:
        """Distances to the reference images and to both held-out sets, fidelity and variety.

        KID in every feature network; Frechet distance, precision, recall, density and coverage in
        ImageNet features where these are wanted (else the last four in random ones). For every
        class of a judge, `kid/<features>/<attributes>/<class>` and so on compare the samples that
        the judge puts in the class (`judged` is what the method of that name returned) with the
        reference images that are of it: better shares must not be paid for with worse images.
        """
        limit = self._config.eval.feature_samples
        ours: dict[str, np.ndarray] = {"random_conv": self._random(samples)}
        theirs = {"random_conv": self._random}
        if self._config.eval.features == "efficientnet_lite0":
            size = self._config.eval.feature_resolution

            def imagenet(images: np.ndarray) -> np.ndarray:
                return features.imagenet(images[:limit], size).astype(np.float64)

            ours["efficientnet_lite0"] = imagenet(samples)
            theirs["efficientnet_lite0"] = imagenet
        for name, of in theirs.items():
            for which, positions in {"": self._reference, **self._held}.items():
                if len(positions) < ENOUGH:
                    continue
                found = of(self._images(positions))
                if which:
                    yield kid_figure(f"kid/{name}/heldout_{which}", ours[name], found)
                    continue
                best = name == list(theirs)[-1]
                yield from overall(name, ours[name], found, best)
                yield from self._by_class(name, ours[name], found, judged, best)

    def smoothness(self, ends: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[Figure]:
        """Path length in ImageNet features, where these are wanted."""
        if self._config.eval.features == "efficientnet_lite0":
            size = self._config.eval.feature_resolution
            of = functools.partial(features.imagenet, resolution=size)
            yield path_length_figure("efficientnet_lite0", of, ends)

    def _by_class(
        self,
        name: str,
        ours: np.ndarray,
        theirs: np.ndarray,
        judged: dict[str, np.ndarray],
        full: bool,
    ) -> Iterator[Figure]:
        """KID in the features `name` within the classes, in `full` with fidelity and variety."""
        yield from within(name, self._classes(ours, theirs, self._reference, judged), full)

    def _classes(
        self,
        ours: np.ndarray,
        theirs: np.ndarray,
        positions: np.ndarray,
        judged: dict[str, np.ndarray],
    ) -> Iterator[Part]:
        """(<attributes>/<class>, note, rows of `ours` that the judge puts in the class, rows of
        `theirs`, at the first of these positions, that are of it), for classes with enough."""
        for judge in self._judges:
            truth = self._dataset.classes(judge.names, positions)
            names = self._dataset.class_names(judge.names)
            for k, words, x, y in by_class(ours, theirs, judged[judge.label], truth, names):
                yield f"{judge.label}/{k}", f"{words}, as the judge decides", x, y

    def ratio_scores(self, samples: np.ndarray) -> Iterator[Figure]:
        """Mean p(reference | x) of samples and of both held-out sets; needs no labels."""
        if self._config.weights.true_ratio:
            return  # no ratio network was trained
        summary = read_json(self._workdir / "weights/summary.json")
        score = RatioScore(
            self._workdir,
            self._config,
            self._dataset,
            summary["slopes"],
            summary["offset"],
        )
        sets = {"samples": samples} | {k: self._images(v) for k, v in self._held.items()}
        for name, images in sets.items():
            if len(images) > 1:
                p = score(images)
                spread = 1.96 * p.std(ddof=1) / np.sqrt(len(p))
                mean = float(p.mean())
                yield Figure(f"ratio_score/{name}", mean, mean - spread, mean + spread, len(p))

    def neighbours(
        self, samples: np.ndarray, judged: dict[str, np.ndarray], show: int = 16
    ) -> tuple[list[Figure], dict[str, np.ndarray]]:
        """Memorisation figure over all samples and, for `show` of them, the nearest image.

        `memorisation/random_conv/<attributes>/<class>` is that of the samples which the judge puts
        in the class (`judged` is what the method of that name returned), beside the held-out images
        that are of it: a few images of large weight are copied first. Without held-out images there
        is nothing to compare distances with: no figure then.
        """
        training = self._dataset.training
        features = self._random(self._images(training))
        rows, distances = nearest(self._random(samples), features)
        positions = np.concatenate(list(self._held.values()))
        held, name = self._random(self._images(positions)), "memorisation/random_conv"
        figures = []
        if len(held):
            held_distances = nearest(held, features)[1]
            figures = [memorisation_figure(name, distances, held_distances)]
            for of, note, x, y in self._classes(distances, held_distances, positions, judged):
                figure = memorisation_figure(f"{name}/{of}", x, y)
                note = f"{note}; {figure.note}" if figure.note else note
                figures.append(figure._replace(note=note))
        pairs = {
            "samples": samples[:show],
            "neighbours": self._images(training[rows[:show]]),
            "distance": distances[:show],
        }
        return figures, pairs
