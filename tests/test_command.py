"""The command line: flags, overrides, help, exit codes. Bad input is in bad_inputs/."""

import signal
import subprocess
import sys

import pipeline
import pytest

from fairjax.errors import InputError
from fairjax.experiments import command, config_line
from fairjax.train import stopping

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
QUICKSTART = f"--config={pipeline.ROOT}/configs/quickstart.py"


def test_help_lists_every_flag(capsys):
    command.main(["launch/train.py", "--help"])
    said = capsys.readouterr().out
    for words in ("--config", "--workdir", "--stage", "dry_run", "--distributed", "<auto|on|off>",
                  "configs/quickstart.py"):  # fmt: skip
        assert words in said


def test_overrides_reach_the_config():
    config = config_line.parse(
        ["x", f"{QUICKSTART}:tiny", "--config.gan.kimg=3", "--config.data.folder.biased=('a','b')",
         "--config.arms.equi.reweight=loss", "--noconfig.ratio.flip", "--config.gan.dro",
         "--config.judge.attribute_sets=(('long_hair',),('skin','beard'))"]
    ).config  # fmt: skip
    assert config.gan.kimg == 3.0
    assert isinstance(config.gan.kimg, float)
    assert config.data.folder.biased == ("a", "b")
    assert config.arms.equi.reweight == "loss"
    assert config.ratio.flip is False
    assert config.gan.dro is True
    assert config.judge.attribute_sets == (("long_hair",), ("skin", "beard"))
    assert config.data.resolution == 16
    assert config.name == "quickstart_tiny"


def test_flags_of_two_words_and_their_defaults():
    values = config_line.parse(["x", "--config", QUICKSTART.split("=")[1], "--workdir", "w"])
    assert values.workdir == "w"
    assert values.stage is None
    assert values.dry_run is False
    assert values.distributed == "auto"


def test_a_topology_alone_is_refused():
    argv = ["x", QUICKSTART, "--topology=cpu:8", "--dry_run"]
    with pytest.raises(InputError, match="--topology: given without"):
        config_line.parse(argv)
    assert config_line.parse([*argv, "--compile"]).topology == "cpu:8"


def test_parsing_leaves_no_trace():
    """Each call has flags of its own: an override of one is not there in the next."""
    config_line.parse(["x", QUICKSTART, "--config.gan.kimg=3"])
    assert config_line.parse(["x", QUICKSTART]).config.gan.kimg != 3


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (stopping.Diverged("loss/g at step 7"), 1, "error: loss/g at step 7"),
        (stopping.Interrupted(signal.SIGTERM), 143, "Go on with: python launch/train.py '--a b'"),
        (stopping.Interrupted(signal.SIGINT), 130, "stopped by SIGINT"),
        (OSError(28, "No space left on device", "/full/disk"), 2, "/full/disk: No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(error, code, words, monkeypatch, capsys):
    def fail(argv):
        raise error

    monkeypatch.setattr(command, "_run", fail)
    with pytest.raises(SystemExit) as end:
        command.main(["launch/train.py", "--a b"])
    assert end.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    """Only what a user can cause becomes a line; everything else is a bug and shows itself."""
    for error in (ValueError("bug"), OSError("no file name"), KeyError("bug")):
        monkeypatch.setattr(command, "_run", lambda argv, e=error: (_ for _ in ()).throw(e))
        with pytest.raises(type(error)):
            command.main(["launch/train.py"])


def test_answers_are_one_line(monkeypatch, capsys):
    error = stopping.Diverged("one\n  two\n\nthree")
    monkeypatch.setattr(command, "_run", lambda argv: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit):
        command.main(["launch/train.py"])
    assert capsys.readouterr().err == "error: one two three\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    code = """
import sys
from fairjax.experiments.program import ended
sys.stdout.reconfigure(line_buffering=True)
with ended("again"):
    while True:
        print("a line")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as program:  # fmt: skip
        assert program.stdout.readline() == b"a line\n"
        program.stdout.close()
        said = program.stderr.read()
        assert (program.wait(), said) == (1, b"")
