"""The command line of `launch/train.py`: flags in, a run or one clear line out.

Exit codes: 0 done; 1 training diverged, another process was lost, or nobody reads what is printed;
2 input that cannot be used; 130/143 stopped by SIGINT or SIGTERM (the same command resumes).
"""

import logging
import shlex
import sys
from collections.abc import Sequence
from functools import partial

from fairjax import classifier_presets
from fairjax.data import cache, storage
from fairjax.errors import InputError
from fairjax.experiments.config_line import command_flags, config_file, parse
from fairjax.experiments.program import run_program
from fairjax.train import stopping
from fairjax.validation import cautions, validate

log = logging.getLogger("fairjax")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the process with the exit codes of the module's docstring."""
    argv = list(sys.argv if argv is None else argv)
    run_program(
        argv,
        _run,
        partial(command_flags, argv),
        about=": runs an experiment of fairjax.",
        example="python launch/train.py --config=configs/quickstart.py",
    )


def _run(argv: list[str]) -> None:
    stopping.install()
    file, _, chosen = config_file(argv).partition(":")
    if chosen == "list":
        print(classifier_presets.listing(parse([argv[0], f"--config={file}"]).config.data.source))
        return
    values = parse(argv)
    config = values.config
    validate(config)
    # Imported here, so that --help and a wrong config do not wait for the libraries.
    import jax

    from fairjax.experiments import fair_generation, robust_classification, workdir
    from fairjax.experiments.compiled_plan import compiled_facts, topology
    from fairjax.experiments.dry_run import report_plan
    from fairjax.train import devices

    devices.initialise(values.distributed, values.coordinator, values.processes, values.process)
    # Compiling takes longer than a short run; the user's own cache is private, as it must be.
    jax.config.update("jax_compilation_cache_dir", str(cache.root() / "xla"))
    try:
        there = topology(values.topology)
        count = len(there) or jax.device_count()
    except RuntimeError as error:
        raise InputError(
            f"JAX finds no device it can use ({error})",
            "JAX_PLATFORMS",
            "Set it to cpu, or install JAX for your device",
        ) from error
    devices.refuse_copies(values.distributed, values.processes)
    validate(config, count)
    robust = config.experiment == "robust_classification"
    experiment = robust_classification if robust else fair_generation
    if values.dry_run:
        facts = partial(compiled_facts, there) if values.compile else None
        print(robust_classification.describe(config) if robust
              else report_plan(config, there or jax.devices(), facts))  # fmt: skip
        return
    workdir.log_to(None)
    with storage.workdir(values.workdir, jax.process_index()) as given:
        folder = workdir.choose(config, given, values.stage)
        pending = experiment.stages_of(config, folder, values.stage).pending()
        missing = []
        if values.stage == "report" and (folder / "config.json").exists():
            missing = [stage for stage in experiment.stages_of(config, folder).pending()
                       if stage != "report"]  # fmt: skip
        if missing:  # the run is only read, so one that goes on need not be waited for
            if devices.is_lead():
                log.info("a page of what is there so far, without %s", ", ".join(missing))
                log.info("open %s", storage.original(experiment.build(folder)))
            return
        with workdir.lock(folder):
            if devices.is_lead():
                # A run that has nothing to do leaves the record as it is.
                if pending or not workdir.described(folder, config):
                    workdir.describe(folder, config, ["python", *argv])
                workdir.log_to(folder)
            log.info("process %d/%d, %d local and %d global devices (%s)", jax.process_index(),
                     jax.process_count(), jax.local_device_count(), count,
                     jax.devices()[0].device_kind)  # fmt: skip
            log.info("run %s; interrupt at any time, resume with: %s", storage.original(folder),
                     shlex.join(["python", *argv]))  # fmt: skip
            for sentence in cautions(config):
                log.warning("%s", sentence)
            with devices.together():
                page = experiment.run(config, folder, values.stage)
            if page.exists():
                log.info("open %s", storage.original(page))
