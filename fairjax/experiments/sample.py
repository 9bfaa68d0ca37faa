"""The command line of `launch/sample.py`: images of a trained generator as PNG files."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from fairjax.data.cache import write_json
from fairjax.errors import InputError
from fairjax.experiments.centres import TABLES, labelled_images, load_judge
from fairjax.experiments.program import new_folder, read_flags, run_program
from fairjax.experiments.saved_generator import (
    Trained,
    centres_of,
    fingerprint,
    labels_of,
    load_generator,
)

log = logging.getLogger("fairjax")

OVERVIEW = 64  # images of grid.png
MOST = 100  # images drawn for each that is kept, after which --balance gives up


def sample_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("generator", None, "Folder that holds generator.safetensors and "
                        "generator.json, e.g. runs/quickstart-2026-11-21/arms/weighted/gan.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("out", None, "New or empty folder for the images.", flag_values=values)
    flags.DEFINE_integer("n", 64, "Number of images.", 1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Image i is a function of (seed, i) alone.", 0, 2**32 - 1,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_float("psi", 1.0, "Truncation: 1 = none, below 1 = nearer to --centre. Figures "
                       "hold for 1 only.", 0.0, 2.0, flag_values=values)  # fmt: skip
    flags.DEFINE_string("centre", None, "Where truncation pulls to: global (the average image, "
                        "that of the majority), class (of the image's own label), or a file "
                        "RUN/arms/ARM/eval/centres/ATTRIBUTES.safetensors: the centre of the class "
                        "that the run's judge sees in the image, or a table of labels "
                        "(.csv, .parquet) beside images of this program: the mean style of those "
                        "labelled --class. Default: class where the generator has classes, else "
                        "global.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("class", None, "Only images of this class of a generator with labels: its "
                        "name or number. Default: classes drawn as in the run's evaluation. With "
                        "a table as --centre: the class to whose centre all images are pulled, of "
                        "whatever class they are.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_list("label", None, "Any numbers as the label, e.g. 0.5,1; in the units of the "
                      "training table where that held numbers, e.g. 34.5.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_string("balance", None, "Judge of a run, RUN/judge/ATTRIBUTES: images are drawn "
                        "until there are equally many of each class that it sees (its errors "
                        "remain); the others are left out, and the cost is printed.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_list("flip", [], "Judge of a run, RUN/judge/ATTRIBUTE, of two classes, or several "
                      "of them: makes --n pairs, an image and its like with the other value of "
                      "this attribute (of all of them). Both are judged; labels.csv lists the "
                      "pairs in which just that changed, pairs.csv all.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_list("keep", [], "Judges of what a pair must have in common, comma-separated.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_integer("fit", 5000, "Images from which the directions of --flip and --keep are "
                         "learnt.", 100, flag_values=values)  # fmt: skip
    flags.DEFINE_enum("space", "w", ["w", "z"], "Latent space of these directions.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_float("margin", 0.0, "How far beyond the border between the values of --flip the "
                       "edited image shall lie, in standard deviations; 0 = as far as the image "
                       "itself on its side.", 0.0, flag_values=values)  # fmt: skip
    flags.DEFINE_integer("cutoff", None, "Truncate this many layers, from the coarsest; default: "
                         "all.", 0, flag_values=values)  # fmt: skip
    flags.DEFINE_enum("noise", "random", ["random", "const", "none"], "Noise images of the layers: "
                      "new ones for each image, the stored ones for all, or none.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_integer("batch", 32, "Images at a time; changes no image.", 1, flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 2 where the input cannot be used."""
    run_program(
        argv,
        _run,
        sample_flags,
        about=": draws images from a trained generator.",
        example="python launch/sample.py --out=faces --generator=RUN/arms/weighted/gan",
    )


def _run(argv: list[str]) -> None:
    values = sample_flags()
    read_flags(values, argv, needed=("generator", "out"))
    out = new_folder(values.out)
    saved = load_generator(Path(values.generator))
    if values.flip or values.keep:
        return _pairs(values, saved, out)
    lonely = [name for name in ("fit", "space", "margin") if values[name].present]
    if lonely:
        raise InputError("it is of pairs", f"--{lonely[0]}", "Give --flip, or leave it out")
    options = {
        "seed": values.seed, "psi": values.psi, "centre": values.centre, "cutoff": values.cutoff,
        "noise": values.noise, "batch": values.batch, "only": values["class"].value,
        "label": values.label,
    }  # fmt: skip
    cost: dict[str, Any] = {}
    if values.balance is None:
        first, classes = _written(out, _metered(saved, n=values.n, **options))
    else:
        from fairjax.experiments.judge_stage import read_judge

        judge = read_judge(Path(values.balance), f"--balance={values.balance}")
        images, of, cost = balanced(saved, judge, values.n, **options)
        first, classes = _written(out, [(images, of)])
    columns = min(8, len(first))
    from fairjax.train.gan import grid

    table = first[: len(first) // columns * columns]
    Image.fromarray(grid(table, columns).squeeze()).save(out / "grid.png")
    record = {
        k: values[k].value
        for k in ("generator", "n", "seed", "psi", "centre", "cutoff", "noise", "class", "label")
    }
    record |= {"fingerprint": fingerprint(saved), "classes": classes} | cost
    write_json(out / "samples.json", record)
    print(f"{values.n} images in {out}, an overview in {out / 'grid.png'}")
    if cost:
        print(f"{cost['drawn']} images were drawn for them, {cost['drawn'] / values.n:.2f} each")


def _written(
    out: Path, batches: Iterable[tuple[np.ndarray, list[str]]]
) -> tuple[np.ndarray, list[str]]:
    """Writes the images as they come, so that memory holds one batch.

    Returns the first ones, for the overview, and the classes of all.
    """
    first: list[np.ndarray] = []
    classes: list[str] = []
    n = 0
    for images, names in batches:
        out.mkdir(parents=True, exist_ok=True)  # here: what is wrong with the input is told before
        for i, image in enumerate(images, n):
            Image.fromarray(image.squeeze()).save(out / f"{i:06d}.png")
        first += [*images[: max(OVERVIEW - n, 0)]]
        classes += names
        n += len(images)
    return np.stack(first), classes


def _pairs(values: flags.FlagValues, saved: Trained, out: Path) -> None:
    """The images, tables and figures of --flip and --keep."""
    from fairjax.experiments import pairs
    from fairjax.experiments.judge_stage import read_judge

    unused = [name for name in ("balance", "centre", "class", "label", "cutoff")
              if values[name].value is not None]  # fmt: skip
    unused += ["noise"] if values.noise != "random" else []
    if not values.flip or unused or values.psi != 1:
        raise InputError(
            f"pairs with --{', --'.join(unused) or 'psi or without --flip'}",
            "--flip",
            "Give --flip, --keep, --n, --fit, --space, --margin and --seed only",
        )
    judges = [read_judge(Path(path), f"--flip and --keep: {path}")
              for path in (*values.flip, *values.keep)]  # fmt: skip
    flips = len(values.flip)
    made, planes = pairs.make_pairs(
        saved, judges, values.n, values.fit, values.seed, values.batch, flips=flips,
        space=values.space, margin=values.margin,
    )  # fmt: skip
    pairs.write_images(out, judges, made)
    about = {"seed": values.seed, "space": values.space, "margin": values.margin}
    for figure in pairs.write_record(out, saved, judges, made, planes, about, flips):
        print(pairs.line(figure))
    print(f"{made.kept.sum()} of {values.n} pairs are in {out / 'labels.csv'}, all are in "
          f"{out / 'pairs.csv'}")  # fmt: skip


def balanced(
    saved: Trained, judge: Any, n: int, *, most: int = MOST, **options: Any
) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """n images with equally many of each class that a judge sees, by rejection.

    Args:
      judge: a `judge_stage.SavedJudge` of the generator's resolution.
      n: number of images; the first classes get what does not divide.
      most: images drawn at most, as a multiple of n.
      options: as of `draw`.

    Returns:
      images uint8 [n, H, W, C] in the order in which they were drawn, the class of each, and
      {"index": their numbers, "drawn": how many images were drawn in all}.

    Raises:
      InputError: the judge sees images of another size, or a class is too rare.
    """
    where = f"--balance={judge.label}"
    if (judge.resolution, judge.channels) != (saved.net.resolution, saved.net.image_channels):
        raise InputError(
            f"the judge sees {judge.resolution} pixels and {judge.channels} channels, the "
            f"generator draws {saved.net.resolution} and {saved.net.image_channels}",
            where, "Take the judge of its run",
        )  # fmt: skip
    k = len(judge.classes)
    missing = np.full(k, n // k) + (np.arange(k) < n % k)
    kept: list[np.ndarray] = []
    index, found, drawn = [], [], 0
    while missing.any() and drawn < most * n:
        images, _ = draw(saved, n=n, first=drawn, **options)
        for i, of in enumerate(judge.score(images).argmax(-1)):
            if missing[of]:
                missing[of] -= 1
                kept.append(images[i])
                index.append(drawn + i)
                found.append(judge.classes[of])
                last = drawn + i + 1
        drawn += n
    if missing.any():
        worst = int(missing.argmax())
        raise InputError(f"{missing[worst]} images of '{judge.classes[worst]}' are missing after "
                         f"{drawn} draws", where, "The generator draws too few of them; ask for "
                         "fewer images")  # fmt: skip
    return np.stack(kept), found, {"index": index, "drawn": last}


def draw(saved: Trained, *, n: int, **options: Any) -> tuple[np.ndarray, list[str]]:
    """n images uint8 [n, H, W, C] of a generator, and the class of each (none without labels);
    options: as of `drawn`."""
    parts, names = [], []
    for images, found in _metered(saved, n=n, **options):
        parts.append(images)
        names += found
    return np.concatenate(parts), names


def _metered(saved: Trained, *, n: int, **options: Any) -> Iterator[tuple[np.ndarray, list[str]]]:
    """As `drawn`, with a progress bar."""
    from fairjax.train.progress import Meter

    made = 0
    with Meter("images", n) as meter:
        for images, names in drawn(saved, n=n, **options):
            yield images, names
            made += len(images)
            meter.update(made)


def drawn(
    saved: Trained,
    *,
    n: int,
    seed: int = 0,
    psi: float = 1.0,
    centre: str | None = None,
    cutoff: int | None = None,
    noise: str = "random",
    batch: int = 32,
    only: str | None = None,
    label: Sequence[Any] | None = None,
    judge: Callable[[np.ndarray], np.ndarray] | None = None,
    first: int = 0,
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """What `draw` gives, batch by batch.

    They are images `first` to `first` + n - 1 of the seed: image i depends on (seed, i) alone, not
    on n or the batch. Truncation (`psi`, `cutoff`) is that
    of `fairjax.models.stylegan2.truncate`, around what `centres_of` finds. With a file of centres
    each image is first drawn whole; `judge` (default: the run's own) says which class it is, and it
    is pulled to the centre of that class. The evaluation may have seen no sample of a class: such
    images are not truncated, since their class has no centre. With a table of labels all images are
    pulled to the mean w of the images that it puts into the class `only`.
    """
    import jax
    import jax.numpy as jnp

    from fairjax.experiments.latents import programs
    from fairjax.models.stylegan2 import num_ws
    from fairjax.train.conditions import cumulative

    net, layers = saved.net, num_ws(saved.net.resolution)
    by_table = centre is not None and Path(centre).suffix.lower() in TABLES
    labels, prior = labels_of(saved, None if by_table else only, label)
    if by_table and net.c_dim:
        raise InputError("a table, while the generator has labels of its own", f"--centre={centre}",
                         "Use --centre=class or global")  # fmt: skip
    table = labelled_images(Path(centre or ""), only, fingerprint(saved)) if by_table else None
    kind, centres, counts = centres_of(saved, None if by_table else centre, label is not None)
    if kind == "judged" and judge is None and psi != 1:
        judge = load_judge(Path(centre or ""))
    variables = {"params": saved.params}
    if noise == "const":
        if saved.noise is None:
            raise InputError("the file has no fixed noise", "--noise=const", "Use random or none")
        variables["buffers"] = saved.noise
    until = layers if cutoff is None else cutoff

    styles, images = programs(net, noise)
    given = variables, np.asarray(labels, np.float32), cumulative(prior)
    if table is not None:
        its_seed, members = table
        padded = np.resize(members, -(-len(members) // batch) * batch)
        w = [styles(part, jax.random.key(its_seed), *given)[0]
             for part in padded.reshape(-1, batch)]  # fmt: skip
        centres = np.concatenate(w)[: len(members)].mean(0, keepdims=True)
    names = [] if saved.conditions is None or label is not None else saved.conditions["classes"]
    for start in range(0, n, batch):
        inputs = first + start + np.arange(batch), jax.random.key(seed)
        w, chosen = styles(*inputs, *given)
        own = np.asarray(chosen) if kind == "class" else np.zeros(batch, int)
        if kind == "judged" and judge is not None:
            whole = images(*inputs, variables, w, jnp.zeros_like(w), jnp.ones(batch), until)
            own = judge(np.asarray(whole)).argmax(-1)
        pull = np.where(counts[own] > 0, psi, 1.0).astype(np.float32)
        goal = jnp.asarray(centres[own], jnp.float32)
        made = np.asarray(images(*inputs, variables, w, goal, jnp.asarray(pull), until))
        classes = [names[c] for c in np.asarray(chosen)[: n - start]] if names else []
        yield made[: n - start], classes
