"""What samples are measured with, during training and at its end: judges, features, references."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.prepare import Dataset
from fairjax.evaluate import features
from fairjax.evaluate.distances import ENOUGH, kid_figure
from fairjax.evaluate.fairness import disagreement_figure, fairness_figures
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.measured import Measured, Measuring, Rows, fair_part
from fairjax.evaluate.neighbours import memorisation_figure, nearest
from fairjax.evaluate.quality import by_class, overall, within
from fairjax.evaluate.smoothness import path_length_figure
from fairjax.experiments.judge_stage import SavedJudge, read_judge
from fairjax.experiments.observed import Observed, Score, observe
from fairjax.experiments.ratio_stage import RatioScore
from fairjax.experiments.stages import read_json

SHOWN = 256  # samples that are kept for the page
RATIO = "p(reference)"  # no judge is called so


class Yardstick:
    """Loads the judges of a workdir and the held-out images; measures samples against them."""

    def __init__(self, workdir: Path, config: ConfigDict, dataset: Dataset):
        self._workdir, self._config, self._dataset = workdir, config, dataset
        folders = [workdir / "judge" / "+".join(names) for names in config.judge.attribute_sets]
        self._judges = [read_judge(folder, str(folder)) for folder in folders]
        roles = dataset.roles
        self._reference = roles["metric_reference"]
        test = roles["ratio_test"]
        self._held = {
            "reference": test[dataset.domain[test] == 1],
            "biased": test[dataset.domain[test] == 0],
        }
        # Too few images for a metric set of their own.
        if len(self._reference) < min(ENOUGH, len(self._held["reference"])):
            self._reference = self._held["reference"]
        references = self._images(self._reference)
        self._judged_reference = [judge.score(references) for judge in self._judges]
        self._random_reference = self._random(self._reference)
        wanted = features.networks(config.eval.features, config.eval.feature_resolution,
                                   config.eval.inception, config.eval.onnx,
                                   config.eval.onnx_scale)  # fmt: skip
        if config.eval.judge_features:
            wanted += [judge.features for judge in self._judges if judge.features is not None]
        self._known: dict[tuple[str, str], Measured] = {}
        # How many images of a set go through each: the untrained one is cheap.
        self._networks = [(network, sys.maxsize if network.name == features.UNTRAINED
                           else config.eval.feature_samples) for network in wanted]  # fmt: skip

    def _images(self, positions: np.ndarray) -> np.ndarray:
        return self._dataset.images[positions]

    def _classes_of(self, judge: SavedJudge, positions: np.ndarray) -> np.ndarray:
        return self._dataset.classes(tuple(judge.label.split("+")), positions)

    def _random(self, positions: np.ndarray) -> np.ndarray:
        return features.extract(features.random_conv(), self._dataset.images, positions)

    def judged(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Samples uint8 [n, H, W, C] -> {judge's label: probabilities [n, k], or where it has
        several networks those of each [n, members, k]}."""
        return {judge.label: judge.each(samples) for judge in self._judges}

    def observe(self, images: Iterable[np.ndarray], n: int) -> Observed:
        """Shows n samples, which come in parts, to the judges, the ratio networks (score
        `RATIO`) and the feature networks; the methods below make figures of it."""
        scores: dict[str, Score] = {judge.label: judge.each for judge in self._judges}
        if self._ratio_score is not None:
            scores[RATIO] = self._ratio_score
        return observe(images, n, scores, self._networks, keep=SHOWN)

    def disagreement(self, seen: Observed) -> Iterator[Figure]:
        """How often the networks of each judge decide differently on the samples."""
        for judge in self._judges:
            if judge.label in seen.votes:
                yield disagreement_figure(seen.votes[judge.label], judge.label, judge.disagreement)

    def fairness(self, judged: Mapping[str, np.ndarray], draws: int = 1000) -> Iterator[Figure]:
        """Shares and discrepancies of what `judged` returned, for every judge."""
        for judge, on_reference in zip(self._judges, self._judged_reference, strict=True):
            classes = self._classes_of(judge, self._reference)
            yield from fairness_figures(
                judged[judge.label], judge.errors, on_reference, classes, judge.label, draws=draws
            )

    def cheap_quality(self, samples: np.ndarray) -> Iterator[Figure]:
        """KID to the metric reference in fixed random features."""
        if len(self._random_reference) >= ENOUGH:
            ours = features.extract(features.random_conv(), samples)
            yield kid_figure(f"kid/{features.UNTRAINED}", ours, self._random_reference)

    def quality_during(self, samples: np.ndarray) -> Iterator[Figure]:
        """The same for use during training, with `eval.features_during` in all features."""
        yield from self.cheap_quality(samples)
        if self._config.eval.features_during and len(self._reference) >= ENOUGH:
            for network, limit in self._networks:
                if network.name != features.UNTRAINED:
                    ours = features.extract(network, samples[:limit])
                    theirs = self._measured(network, "", fair_part(self._reference, limit)).rows.x
                    yield kid_figure(f"kid/{network.name}", ours, theirs)

    def quality(self, seen: Observed) -> Iterator[Figure]:
        """Distances to the reference images and to both held-out sets, fidelity and variety.

        KID in every feature network; Frechet distance, precision, recall, density and coverage in
        trained features where these are wanted (else the last four in random ones). For every
        class of a judge, `kid/<features>/<attributes>/<class>` and so on compare the samples that
        the judge puts in the class with the reference images that are of it: better shares must not
        be paid for with worse images.
        """
        for network, limit in self._networks:
            ours, name = seen.measured[network.name], network.name
            for which, every in {"": self._reference, **self._held}.items():
                if len(every) < ENOUGH:
                    continue
                positions = fair_part(every, limit)
                theirs = self._measured(network, which, positions)
                if which:
                    rows = ours.rows.x, theirs.rows.x
                    yield kid_figure(f"kid/{name}/heldout_{which}", *rows)
                    continue
                best = name != features.UNTRAINED or len(self._networks) == 1
                yield from overall(name, ours, theirs, best)
                yield from self._by_class(name, ours.rows, theirs.rows, positions, seen.scores,
                                          best)  # fmt: skip

    def smoothness(self, ends: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[Figure]:
        """Path length in ImageNet features, where these are wanted."""
        if self._config.eval.features == "efficientnet_lite0":
            network = features.efficientnet_lite0(self._config.eval.feature_resolution)
            yield path_length_figure(network.name, partial(features.extract, network), ends)

    def _measured(self, network: features.Network, which: str, positions: np.ndarray) -> Measured:
        """A set of held-out images, measured once for all arms.

        Not from the user's cache folder: what another run left there may be rounded otherwise, and
        a run that is repeated must end with the same bits.
        """
        key = network.name, which
        if key not in self._known:
            measuring = Measuring(network._replace(classes=None), len(positions))
            measuring.add(self._dataset.images, positions)
            self._known[key] = measuring.result()
        return self._known[key]

    def _by_class(
        self,
        name: str,
        ours: Rows,
        theirs: Rows,
        positions: np.ndarray,
        judged: Mapping[str, np.ndarray],
        full: bool,
    ) -> Iterator[Figure]:
        """KID in the features `name` within the classes, in `full` with fidelity and variety;
        `positions` are those of `theirs`."""
        size = len(ours.x), len(theirs.x)
        parts = ((of, note, ours.at(x), theirs.at(y))
                 for of, note, x, y in self._classes(*size, positions, judged))  # fmt: skip
        yield from within(name, parts, full)

    def _classes(
        self, ours: int, theirs: int, positions: np.ndarray, judged: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        """(<attributes>/<class>, note, which of the first `ours` samples the judge puts in the
        class, which of the first `theirs` of these positions are of it), for classes with enough
        of both."""
        for judge in self._judges:
            decided = judged[judge.label][:ours].argmax(-1)
            truth = self._classes_of(judge, positions)[:theirs]
            for k, words, x, y in by_class(decided, truth, judge.classes):
                yield f"{judge.label}/{k}", f"{words}, as the judge decides", x, y

    @cached_property
    def _ratio_score(self) -> RatioScore | None:
        if self._config.weights.true_ratio:
            return None  # no ratio network was trained
        summary = read_json(self._workdir / "weights/summary.json")
        return RatioScore(self._workdir, self._config, self._dataset, summary["slopes"],
                          summary["offset"])  # fmt: skip

    @cached_property
    def _held_ratios(self) -> dict[str, np.ndarray]:
        """p(reference | x) of both held-out sets, for all arms."""
        score = self._ratio_score
        return {k: score(self._images(v)) for k, v in self._held.items()} if score else {}

    def ratio_scores(self, seen: Observed) -> Iterator[Figure]:
        """Mean p(reference | x) of samples and of both held-out sets; needs no labels."""
        if RATIO not in seen.scores:
            return
        for name, p in {"samples": seen.scores[RATIO], **self._held_ratios}.items():
            if len(p) > 1:
                spread = 1.96 * p.std(ddof=1) / np.sqrt(len(p))
                mean = float(p.mean())
                yield Figure(f"ratio_score/{name}", mean, mean - spread, mean + spread, len(p))

    @cached_property
    def _held_positions(self) -> np.ndarray:
        return np.concatenate(list(self._held.values()))

    @cached_property
    def _random_known(self) -> tuple[np.ndarray, np.ndarray]:
        """Random features of the training images and of the held-out ones, for all arms."""
        return self._random(self._dataset.training), self._random(self._held_positions)

    def neighbours(
        self, seen: Observed, show: int = 16
    ) -> tuple[list[Figure], dict[str, np.ndarray]]:
        """Memorisation figure over the samples and, for `show` of them, the nearest image.

        `memorisation/random_conv/<attributes>/<class>` is that of the samples which the judge puts
        in the class, beside the held-out images that are of it: a few images of large weight are
        copied first. Without held-out images there is nothing to compare distances with: no figure
        then. Training images are the real ones, also for an arm that was trained on samples of
        another (`gan.own_from`).
        """
        training = self._dataset.training
        known, held = self._random_known
        ours = seen.measured[features.UNTRAINED].rows.x[: self._config.eval.feature_samples]
        rows, distances = nearest(ours, known)
        positions, name = self._held_positions, f"memorisation/{features.UNTRAINED}"
        figures = []
        if len(held):
            held_distances = nearest(held, known)[1]
            figures = [memorisation_figure(name, distances, held_distances)]
            sizes = len(distances), len(held_distances)
            for of, note, x, y in self._classes(*sizes, positions, seen.scores):
                figure = memorisation_figure(f"{name}/{of}", distances[x], held_distances[y])
                note = f"{note}; {figure.note}" if figure.note else note
                figures.append(figure._replace(note=note))
        pairs = {
            "samples": seen.first[:show],
            "neighbours": self._images(training[rows[:show]]),
            "distance": distances[:show],
        }
        return figures, pairs
