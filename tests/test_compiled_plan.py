"""`--dry_run --compile --topology`: programs for devices that are not there."""

import re

import pipeline
import pytest

from fairjax.errors import InputError
from fairjax.experiments import compiled_plan


@pytest.mark.long
@pytest.mark.slow
def test_eight_devices_send_gradients_only(tmp_path):
    workdir = tmp_path / "run"
    done = pipeline.run(workdir, "--dry_run", "--compile", "--topology=cpu:8",
                        "--config.gan.batch=32")  # fmt: skip
    pipeline.ok(done)
    assert not workdir.exists()
    assert "over 8 device(s)" in done.stdout
    lines = dict(re.findall(r"^  (g|d|d \+ r1): +(a device holds .*)$", done.stdout, re.MULTILINE))
    most = {"g": 1, "d": 1, "d + r1": 2}  # one sum of all gradients for each update of a network
    sizes = {"g": 1425, "d": 777, "d + r1": 2 * 777}
    assert lines.keys() == most.keys()
    for name, line in lines.items():
        sent = re.findall(r"([a-z-]+) (\d+) x, ([\d,]+) bytes", line)
        ((kind, number, size),) = sent  # no parameter is gathered
        assert kind == "all-reduce"
        assert int(number) <= most[name]
        assert 4 * sizes[name] <= int(size.replace(",", "")) <= 8 * sizes[name] + 4000
    assert "predicted for 8 devices, not measured" in done.stdout
    assert re.search(r"TPU v5e, ICI: .*% of the speed of 8 single devices", done.stdout)


def test_devices_that_cannot_be_described():
    with pytest.raises(InputError, match=r"--topology=v5e:seven.*cpu:256.*libtpu"):
        compiled_plan.topology("v5e:seven")
    assert compiled_plan.topology("") == ()


def test_predictions_of_one_device():
    lines = compiled_plan.predictions(256, 4.825e11, 2.0, 1e8)
    v5e = next(line for line in lines if "v5e" in line)
    # 4.8e11 operations at 242 / 989 of 197e12 a second; 2 x 50 us and 2 x 255 / 256 x 1e8 at 200e9.
    assert "10.01 ms of computation, 1.10 ms of all-reduces: 90% of the speed" in v5e
