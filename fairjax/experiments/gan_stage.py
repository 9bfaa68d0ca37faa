"""Stages `gan` and `eval` of one arm: train the generator, then measure it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fairjax.config import digest, named_arm, with_arm
from fairjax.data.cache import write_json
from fairjax.data.prepare import Dataset
from fairjax.evaluate.figures import Figure, is_main_figure, write_figures
from fairjax.evaluate.smoothness import EPSILON
from fairjax.experiments import keys, penalty_stage, ratio_stage
from fairjax.experiments.centres import save_centres
from fairjax.experiments.real_examples import conditions, for_second, generated, real_examples
from fairjax.experiments.stages import read_json
from fairjax.experiments.weights_stage import load_weights
from fairjax.experiments.yardstick import RATIO, Yardstick
from fairjax.report.collapse import tells_apart
from fairjax.report.rows import KIDS
from fairjax.train import loop, streams
from fairjax.train.conditions import Conditions
from fairjax.train.devices import is_lead
from fairjax.train.gan import Gan
from fairjax.train.network_files import D_FIELDS, G_FIELDS, Saved, fields_of, write_folder
from fairjax.train.starting import Start, log_start, start_from
from fairjax.train.weight_files import load_tree

log = logging.getLogger("fairjax")

# Keys of `gan` that the compiled programs do not depend on: arms that differ in these share them.
DATA_ONLY = ("draws", "train_on", "groups", "dro_bins", "dro_c", "dro_start", "log_every_kimg",
             "save_every_kimg", "sample_every_kimg", "init_from", "init_d", "init_grow",
             "second_from", "own_from", "own_share", "penalty_groups", "penalty_attributes",
             "penalty_count", "penalty_target")  # fmt: skip
RAMP_ONLY = ("reweight", "resample_share")  # read by the step only with `alpha_ramp`
_programs: dict[str, Gan] = {}


def programs(config: ConfigDict, labels: Conditions | None = None) -> Gan:
    """The compiled programs of a config, made once per shape, objective and set of labels."""
    unread = (*DATA_ONLY, *(() if config.gan.alpha_ramp else RAMP_ONLY))
    shape = {k: v for k, v in config.gan.items() if k not in unread}
    shape["init_from"] = bool(config.gan.init_from)  # the ramp of the average depends on it
    told = None if labels is None else labels.record()
    key = digest([shape, config.data.resolution, config.data.channels, told])
    if key not in _programs:
        _programs[key] = Gan(
            config.gan, resolution=config.data.resolution, channels=config.data.channels,
            conditions=labels,
        )  # fmt: skip
    return _programs[key]


def rhythm(config: ConfigDict) -> loop.Rhythm:
    """Thousand images -> steps, in one place."""
    gan = config.gan

    def steps(kimg: float) -> int:
        return max(1, round(kimg * 1000 / gan.batch))

    return loop.Rhythm(
        total=steps(gan.kimg),
        images_per_step=gan.batch,
        log=steps(gan.log_every_kimg),
        save=steps(gan.save_every_kimg),
        evaluate=steps(config.eval.every_kimg),
        sample=steps(gan.sample_every_kimg),
    )


def train_arm(
    workdir: Path, base: ConfigDict, dataset: Dataset, name: str, yardstick: Yardstick, folder: Path
) -> dict[str, Any]:
    """Trains the networks of one arm; the moving average of the generator goes to
    generator.safetensors, the discriminator to discriminator.safetensors.

    Returns what the stage's DONE records: the file that the networks started from, if any, and the
    judge and the target of the penalty, if any.
    """
    config = with_arm(base, name)
    for key in ("init_from", "second_from"):
        config.gan[key] = file_of(config.gan[key], workdir)
    labels = conditions(config, dataset)
    gan = programs(config, labels)
    weight, log_ratio = load_weights(workdir, dataset)
    classes = None if labels is None else labels.classes
    cluster = ratio_stage.load_clusters(workdir) if config.gan.groups == "clusters" else None
    examples, table = real_examples(config, dataset, weight, log_ratio, classes, cluster)
    if labels is not None:
        log.info("gan %s: trained with labels of %s; labels of fakes by %s (%s)", name,
                 " and ".join(labels.attributes), config.gan.fake_labels,
                 labels.of_fakes())  # fmt: skip
    images, training = training_images(workdir, base, dataset, name)
    judge = penalty_stage.load(workdir, config, dataset)
    # All arms share the seed: they start from the same networks and see the same latents.
    seed = keys.number(config.seed, "gan")
    sample_key = keys.root(config.seed, "gan samples")

    warned = False  # once a run, not after every evaluation

    def evaluate(ema: Any, step: int) -> dict[str, float]:
        nonlocal warned
        if not warned and is_lead():
            sofar = streams.read(folder / "metrics.jsonl")
            for sentence in tells_apart(name, sofar, config.gan.loss, config.gan.r1_target):
                log.warning("%s", sentence)
                warned = True
        samples = gan.sample(ema, sample_key, config.eval.samples_during, config.eval.batch)
        fairness = yardstick.fairness(yardstick.judged(samples), draws=200)
        figures = [*fairness, *yardstick.quality_during(samples)]
        kimg = step * config.gan.batch / 1000
        for figure in figures:
            if is_main_figure(figure.name) or figure.name.startswith("kid/"):
                log.info("gan %s: %.1f kimg, %s = %.3f [%.3f, %.3f]", name, kimg, *figure[:4])
        return {figure.name: figure.value for figure in figures}

    def start(state: Any) -> Any:
        found = start_of(config, state, labels)
        if found is None:
            return state
        log_start(found.record)
        if is_lead():
            write_json(folder / "start.json", found.record)
        return found(state)

    task = gan.task(f"gan {name}", examples, evaluate, keys.root(config.seed, "grid"), judge)
    task = replace(task, start=start)
    state = loop.run(
        task,
        loop.drawn(images, training, table, seed=seed, batch=gan.reals_per_step,
                   then=for_second(config, dataset)),
        keys.root(config.seed, "gan"),
        rhythm(config),
        folder,
        config.bad_numbers,
    )  # fmt: skip
    if is_lead():
        noise = gan.fixed_noise(keys.root(config.seed, "gan noise"))
        write_folder(folder, saved(config, gan, state, noise))
    started = folder / "start.json"
    start_record = {"start": read_json(started)} if started.exists() else {}
    return start_record | penalty_stage.record(config, judge)


def training_images(
    workdir: Path, base: ConfigDict, dataset: Dataset, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [m, H, W, C], positions [n] of the training list in them) of one arm.

    With `gan.own_from` a share of the training images is replaced by samples of the named arm's
    averaged generator, not truncated; a resumed run draws the same ones again. They and the real
    images that are left are held in memory then (n H W C bytes).

    Raises:
      InputError: the file of the named arm's generator is missing or damaged.
    """
    config = with_arm(base, name)
    replaced = np.flatnonzero(generated(config, len(dataset.training)))
    if not len(replaced):
        return dataset.images, dataset.training
    of, batch = named_arm(config.gan.own_from), config.eval.batch
    source = with_arm(base, of)
    gan = programs(source, conditions(source, dataset))
    params = load_tree(workdir / f"arms/{of}/gan/generator.safetensors")["generator"]
    log.info("gan %s: %d of %d training images are samples of %s", name, len(replaced),
             len(dataset.training), of)  # fmt: skip
    images, start = dataset.images[dataset.training], 0  # a copy
    key = keys.root(config.seed, "own samples", of)
    for part, _ in gan.drawn(params, key, len(replaced), batch):
        images[replaced[start : start + len(part)]] = part
        start += len(part)
    return images, np.arange(len(images))


def saved(config: ConfigDict, gan: Gan, state: Any, noise: Any) -> Saved:
    """What a finished training leaves for sampling, and for going on from there."""
    conditions = None
    if gan.conditions is not None:
        conditions = gan.conditions.record() | {"fake_labels": config.gan.fake_labels}
    return Saved(
        fields_of(gan.g, G_FIELDS), state.ema, np.asarray(jax.device_get(state.w_avg)),
        buffers=noise, d_fields=fields_of(gan.d, D_FIELDS), d=state.d, conditions=conditions,
    )  # fmt: skip


def file_of(name: str, workdir: Path) -> str:
    """A file of networks as the config gives it, or the folder of the arm that it names."""
    arm = named_arm(name)
    return str(workdir / f"arms/{arm}/gan") if arm else name


def start_of(
    config: ConfigDict, state: Any = None, labels: Conditions | None = None
) -> Start | None:
    """The networks that `gan.init_from` gives an arm, checked against its config; None without.

    Computes nothing: of the state only the shapes are looked at. Raises InputError, see
    `fairjax.train.starting`.
    """
    if not config.gan.init_from:
        return None
    gan = programs(config, labels)
    if state is None:
        vector: Any = jax.ShapeDtypeStruct((1,), jax.numpy.float32)
        state = jax.eval_shape(gan.init, jax.eval_shape(lambda: jax.random.key(0)), vector)
    return start_from(config.gan, gan.g, gan.d, state, labels)


def _truncated(
    config: ConfigDict, gan: Gan, saved: Any, key: jax.Array, yardstick: Yardstick
) -> Iterator[Figure]:
    """`psi<psi>/<figure>`: proportions and KID of truncated samples, for each of `eval.psis`."""
    for psi in config.eval.psis:
        samples = gan.sample(saved["generator"], key, config.eval.samples_during,
                             config.eval.batch, saved["mapping_mean"]["w_avg"], psi)  # fmt: skip
        for figure in (
            *yardstick.fairness(yardstick.judged(samples), draws=200),
            *yardstick.cheap_quality(samples),
        ):
            kind, hard = figure.name.split("/")[0], "/hard/" in figure.name
            if kind == "kid" or (hard and kind in ("share", "fairness_discrepancy")):
                yield figure._replace(name=f"psi{psi:g}/{figure.name}")


def _steps(
    config: ConfigDict, gan: Gan, params: Any, key: jax.Array
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images at the ends of short steps in W, about `eval.samples_during` of them."""
    batch = config.eval.batch
    for i in range(-(-config.eval.samples_during // batch)):
        yield gan.step_ends(params, jax.random.fold_in(key, i), batch, EPSILON)


def measure_arm(
    workdir: Path, base: ConfigDict, dataset: Dataset, name: str, yardstick: Yardstick, folder: Path
) -> None:
    """Writes the final figures of one arm, samples for the page, and nearest neighbours.

    Neighbours and memorisation are those among the real training images, with `gan.own_from` too.
    """
    config = with_arm(base, name)
    saved = load_tree(workdir / f"arms/{name}/gan/generator.safetensors")
    key = keys.root(config.seed, "final samples")
    gan = programs(config, conditions(config, dataset))
    drawn = gan.drawn(saved["generator"], key, config.eval.samples, config.eval.batch)
    w = []

    def images() -> Iterator[np.ndarray]:
        for part, styles in drawn:
            w.append(styles)
            yield part

    seen = yardstick.observe(images(), config.eval.samples)
    judged = {label: p for label, p in seen.scores.items() if label != RATIO}
    close, pairs = yardstick.neighbours(seen)
    figures = [
        *yardstick.fairness(seen.scores | seen.votes),
        *yardstick.disagreement(seen),
        *yardstick.quality(seen),
        *yardstick.ratio_scores(seen),
        *close,
        *_truncated(config, gan, saved, key, yardstick),
        *yardstick.smoothness(_steps(config, gan, saved["generator"], key)),
    ]
    if is_lead():
        n = len(seen.first)
        shown = {"images": seen.first} | {f"judge/{k}": p[:n] for k, p in judged.items()}
        np.savez(folder / "samples.npz", allow_pickle=False, **shown)
        np.savez(folder / "neighbours.npz", allow_pickle=False, **pairs)
        for label, probabilities in judged.items():
            save_centres(folder, label, np.concatenate(w), probabilities)
        write_figures(folder / "metrics.json", figures)
    for figure in figures:
        if figure.name.startswith(("fairness", *KIDS[:-1], "ratio_score", "memor")):
            log.info("eval %s: %s = %.4f [%.4f, %.4f]", name, *figure[:4])
