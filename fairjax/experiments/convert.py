"""The command line of `launch/convert.py`: trained networks from one file format to another."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from fairjax.data.storage import local
from fairjax.errors import InputError
from fairjax.experiments.program import read_flags, run_program


def convert_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("source", None, "Networks to read: an official StyleGAN2 .pkl (of "
                        "stylegan2, stylegan2-ada(-pytorch) or stylegan3; nothing in it is "
                        "executed), a "
                        ".safetensors file with its .json, or the folder of a finished gan stage, "
                        "e.g. RUN/arms/weighted/gan.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("out", None, "What to write. NAME.safetensors: published names and "
                        "layouts, with the options in NAME.json. NAME.jaxexport: the averaged "
                        "generator as a program for jax.export.deserialize, which needs no "
                        "fairjax. Any other name: a folder that launch/sample.py and gan.init_from "
                        "read.", flag_values=values)  # fmt: skip
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 2 where the input cannot be used."""
    run_program(
        argv,
        _run,
        convert_flags,
        about=": converts trained networks between file formats.",
        example="python launch/convert.py --source=ffhq.pkl --out=ffhq",
    )


def _run(argv: list[str]) -> None:
    values = convert_flags()
    read_flags(values, argv, needed=("source", "out"))
    print(convert(Path(values.source), local(values.out, "--out")))


def convert(source: Path, out: Path) -> str:
    """Reads `source`, writes `out`, and returns a sentence about it.

    Raises:
      InputError: the source cannot be read (`network_files.read`), or there is something at `out`.
    """
    published, portable = out.suffix == ".safetensors", out.suffix == ".jaxexport"
    options = out.with_suffix(".json")
    for path in (out, options) if published else (out,):
        if path.is_dir() and not (published or portable) and not any(path.iterdir()):
            continue
        if path.exists():
            raise InputError("it exists", str(path), "Give a new name; nothing is overwritten")
    # Imported here, so that --help and a wrong flag do not wait for the libraries.
    from fairjax.train import network_files

    saved = network_files.read(source)
    if portable:
        from fairjax.train.portable import write_portable

        out.parent.mkdir(parents=True, exist_ok=True)
        write_portable(saved, out)
        return f"{out}: the averaged generator, {saved.g_fields['resolution']} px"
    what = ["the averaged generator"]
    what += ["its discriminator"] if saved.d is not None else []
    if published:
        what += ["the generator in training"] if saved.g is not None else []
        what += [] if saved.buffers else ["fixed noise drawn now, as the source has none"]
        out.parent.mkdir(parents=True, exist_ok=True)
        network_files.write_published(out, network_files.to_published(saved),
                                      saved.conditions)  # fmt: skip
        return f"{out} and {options}: {', '.join(what)}"
    out.mkdir(parents=True, exist_ok=True)
    network_files.write_folder(out, saved)
    return f"{out}: {', '.join(what)}, {saved.g_fields['resolution']} px"
