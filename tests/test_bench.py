"""`launch/bench.py`: figures of its JSON line, its count of the work, its answers to bad input."""

import contextlib
import json
import math
import re
import subprocess
import sys
from types import SimpleNamespace

import inception_numbers
import jax
import make_celeba
import numpy as np
import pipeline
import pytest
from flax.traverse_util import flatten_dict

from fairjax.config import defaults, with_arm
from fairjax.errors import InputError
from fairjax.experiments import (
    bench,
    bench_features,
    bench_input,
    bench_loader,
    bench_peer,
    bench_report,
)
from fairjax.experiments.bench_peer import Peer
from fairjax.experiments.bench_profile import Operation, kinds, operations
from fairjax.experiments.bench_work import forward_macs, phase_flop
from fairjax.experiments.dry_run import abstract_gan

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
TINY = ("--config.gan.style_mixing=0.9", "--config.gan.channel_max=4", "--config.data.resolution=8")


def config_of(**gan):
    config = defaults()
    config.data.resolution = gan.pop("resolution", 64)
    config.gan.update(gan)
    return with_arm(config, "main")


@pytest.mark.slow
@pytest.mark.parametrize("off", [pytest.param(set(), marks=pytest.mark.long), {"path_length"}])
def test_one_json_line_with_figures_that_fit_together(tmp_path, off):
    command = [sys.executable, str(pipeline.ROOT / "launch/bench.py"), "--seconds=0.2",
               f"--config={pipeline.ROOT}/configs/quickstart.py:tiny", "--arm=equi",
               f"--config.gan.path_length_weight={0.0 if off else 2.0}",
               f"--out={tmp_path / 'bench.jsonl'}", *TINY]  # fmt: skip
    if off:
        command += [f"--profile={tmp_path / 'profile'}", "--forms"]
    done = subprocess.run(command, capture_output=True, text=True, env=pipeline.environment())
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "bench.jsonl").read_text())
    assert (report["arm"], report["shape"]["batch"], report["rounds"] >= 3) == ("equi", 8, True)
    assert report["compilations"] == 4 - len(off)
    assert report["recompilations"] == 0
    assert len(report["compile_seconds"]) == 4 - len(off)
    assert report["finite"]
    ms = {name: spread["median"] for name, spread in report["ms"].items()}
    assert set(ms) == set(report["gflop"]) == {"g", "path_length", "d", "r1", "iteration"} - off
    for name, spread in report["ms"].items():
        assert spread["low"] <= spread["median"] <= spread["high"]
        if ms[name] > 0:
            assert report["images_per_second"][name] == pytest.approx(8000 / ms[name])
            assert report["gflops"][name] == pytest.approx(1e3 * report["gflop"][name] / ms[name])
    rate = report["matmul_gflops"]["float32"]
    assert report["share_of_matmul"]["float32"] == pytest.approx(
        report["gflops"]["iteration"] / rate
    )
    assert report["input"]["share"] == pytest.approx(report["input"]["ms"] / ms["iteration"])
    assert report["peak_memory_mb"] > 50
    assert report["versions"]["jax"] == jax.__version__
    assert report["device"]["threads"] >= 1
    assert report["device"]["load_before"] >= 0
    assert report["date"].endswith("Z")
    assert "round 3/" in done.stderr  # progress
    assert "images/s" in done.stderr  # the table, wide enough for its figures
    assert "…" not in done.stderr
    assert "peer" not in report
    forms = report.get("forms_ms", {})
    assert set(forms) == ({"blur", "image_up", "image_down", "conv", "conv_up", "conv_down"}
                          if off else set())  # fmt: skip
    assert all(set(of) == {"slices", "library", "lax"} and min(of.values()) > 0
               for of in forms.values())  # fmt: skip
    assert ("slices *" in done.stderr) == bool(off)  # that of the CPU
    traced = {path.relative_to(tmp_path / "profile").parts[0]
              for path in tmp_path.glob("profile/**/*.xplane.pb")}  # fmt: skip
    assert traced == ({"g", "d", "d+r1"} if off else set())
    assert ("where the time goes" in done.stderr) == bool(off)
    if off:
        shares = [float(s) for s in re.findall(r"│ +([\d.]+) % │", done.stderr)]
        assert sum(shares) == pytest.approx(600, abs=6)  # by kind, and one by one


def test_operations_are_added_up_by_what_they_are():
    names = {  # of an H100 and of a CPU
        "cudnn-conv.45 (sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_)": 1.0,
        "command_buffer_219 (loop_convert_fusion)": 2.0,
        "command_buffer_541 (loop_add_fusion_10)": 3.0,
        "gemm_fusion_dot.5 (gemm_fusion_dot_5)": 4.0,
        "dot.3": 5.0,
        "transpose_copy_fusion": 6.0,
    }
    found = kinds([Operation(name, ms, ms / 21) for name, ms in names.items()])
    assert {kind.name: kind.ms for kind in found} == {
        "all matrix products": 9.0,
        "all copies and transposes": 6.0,
        "all element-wise, sums, slices": 5.0,
        "all convolutions": 1.0,
    }
    assert [kind.ms for kind in found] == [9.0, 6.0, 5.0, 1.0]
    assert sum(kind.share for kind in found) == pytest.approx(1)


def test_a_loop_is_not_counted_beside_its_body():
    def event(op, ns):
        return SimpleNamespace(name=op, stats=[("hlo_op", op)], duration_ns=ns)

    events = [event("while.5", 9), event("dot.3", 4), event("dot.3", 5), event("conditional", 2)]
    events += [event("while_fusion", 1), SimpleNamespace(name="x", stats=[], duration_ns=7)]
    line = SimpleNamespace(events=events)
    found = operations(SimpleNamespace(planes=[SimpleNamespace(lines=[line])]))
    assert found == {"dot.3": 9, "while_fusion": 1}


@pytest.mark.parametrize(
    ("resolution", "base", "g", "d"),
    [(64, 16384, 7.6, 7.9), (128, 16384, 11.3, 11.6), (256, 16384, 14.9, 15.4),
     (512, 32768, 59.7, 61.6), (1024, 32768, 74.3, 76.7)],
)  # fmt: skip
def test_forward_macs_are_the_known_ones(resolution, base, g, d):
    macs = forward_macs(config_of(resolution=resolution, channel_base=base))
    assert macs.synthesis / 1e9 == pytest.approx(g, abs=0.06)
    assert macs.discriminator / 1e9 == pytest.approx(d, abs=0.06)
    assert macs.mapping == 8 * 512**2


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_forward_macs_follow_from_the_parameters(architecture):
    """Each kernel meets every place of its smaller side once, each dense weight one number."""
    config = config_of(resolution=16, channel_base=128, channel_max=24, z_dim=10, w_dim=12,
                       mapping_layers=3, mbstd_group=4, d_width=2.0, g_architecture=architecture,
                       d_architecture=architecture)  # fmt: skip
    _, (state, *_) = abstract_gan(config)

    def places(name, shape):
        if len(shape) == 2:
            return 1
        size = int(next(part for part in name if part[0] == "b" and part[1:].isdigit())[1:])
        up = name[0] == "synthesis" and name[-2] in ("conv0", "skip")
        down = name[0] != "synthesis" and name[-2] in ("conv1", "skip")
        return size**2 // 4 if up or down else size**2

    def total(tree, part=""):
        found = flatten_dict(tree)
        return sum(math.prod(x.shape) * places(name, x.shape) for name, x in found.items()
                   if name[-1] == "weight" and name[0].startswith(part))  # fmt: skip

    macs = forward_macs(config)
    assert macs.mapping == total(state.g, "mapping")
    assert macs.synthesis == total(state.g, "synthesis")
    assert macs.discriminator == total(state.d)


def test_flop_of_the_phases():
    config = config_of(batch=32)
    mapping, g, d = forward_macs(config)
    of = phase_flop(config)
    assert of["g"] == 2 * 32 * (3 * (g + 2 * mapping) + 2 * d)  # two mappings: style mixing
    assert of["path_length"] == 2 * 16 * (6 * g + 3 * 2 * mapping)
    assert of["d"] == 2 * 32 * (g + 2 * mapping + 6 * d)
    assert of["r1"] == 2 * 32 * 6 * d
    # Per image about 4.75 G + 8.4 D forwards, 204 GFLOP.
    assert of["iteration"] / 32 / 1e9 == pytest.approx(204, rel=0.01)
    assert of["iteration"] == of["g"] + of["path_length"] / 4 + of["d"] + of["r1"] / 16
    off = phase_flop(config_of(batch=32, path_length_weight=0.0, r1_gamma=0.0))
    assert off["iteration"] == off["g"] + off["d"]


def test_rounds_take_turns_and_keep_to_the_time():
    said = []

    def timer(side, seconds):
        def run(program, times):
            said.append((side, program, times))
            return seconds[program] * times

        return run, seconds

    quick, slow = {"g": 0.01, "d": 0.02}, {"g": 0.1, "d": 0.3}
    samples = bench_report.rounds({"ours": timer("ours", quick), "peer": timer("peer", slow)}, 2.0)
    assert [side for side, *_ in said[:12]] == ["ours"] * 3 + ["peer"] * 6 + ["ours"] * 3
    assert [program for _, program, _ in said[:6]] == ["g", "g", "d"] * 2
    assert all(said[i][2] == 1 for i in range(0, len(said), 3))  # untimed
    assert len(samples["ours"]) == len(samples["peer"]) == 5
    assert all(s == pytest.approx({"g": 10, "d": 20}) for s in samples["ours"])
    timed = [turn for i, turn in enumerate(said) if i % 3]
    for side, each in (("ours", quick), ("peer", slow)):
        spent = sum(each[program] * times for s, program, times in timed if s == side)
        assert 1 < spent < 3
    few = bench_report.rounds({"ours": timer("ours", slow)}, 0.1)
    assert len(few["ours"]) == 3
    assert [program for _, program, _ in said[-6:]] == ["g", "d"] * 3  # nobody took turns with it


def test_speed_over_the_peer():
    found = bench_report.speed_over([10, 20, 40], [30, 30, 30])
    assert found["median"] == 1.5
    assert (found["low"], found["high"]) == pytest.approx((1.125, 2.25))
    assert bench_report.speed_over([10, -1, 5], [30, 30, 30]) is None


def refused(capsys, *args):
    with pytest.raises(SystemExit) as end:
        bench.main(["launch/bench.py", *args])
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    return line


def test_bad_input(tmp_path, capsys):
    given = f"--config={pipeline.ROOT}/configs/quickstart.py:tiny"
    assert "no config" in refused(capsys)
    assert "Did you mean seconds" in refused(capsys, given, "--secnds=3")
    assert "Did you mean weighted" in refused(capsys, given, "--arm=weigted")
    assert "config.gan.batch" in refused(capsys, given, "--config.gan.btch=8")
    assert "gan.batch (=0)" in refused(capsys, given, "--config.gan.batch=0")
    assert "unexpected argument" in refused(capsys, given, "more")
    assert "it is a folder" in refused(capsys, given, f"--out={tmp_path}")
    assert "--out" in refused(capsys, given, "--out=gs://bucket/bench.jsonl")
    half = refused(capsys, given, "--against=pytorch", "--config.gan.half_resolutions", "1")
    assert "gan.half_resolutions" in half
    for change in ("augment=ada", "penalty=marginals", "second_d=frozen", "condition=('long',)"):
        line = refused(capsys, given, "--against=pytorch", "--arm=equi", f"--config.gan.{change}")
        assert f"gan.{change.split('=')[0]}" in line
    classifiers = f"--config={pipeline.ROOT}/configs/digits_occam.py"
    for name in ("--forms", "--start", "--against=pytorch", f"--profile={tmp_path}"):
        line = refused(capsys, classifiers, "--arm=occam", name)
        assert f"{name.split('=')[0]}: it is of generators" in line
    assert "--arm: 'erm' is the --baseline as well" in refused(capsys, classifiers)


def checkout(folder, networks):
    (folder / "training").mkdir(parents=True)
    (folder / "training/networks.py").write_text(networks)
    return str(folder)


def test_what_the_peer_lacks_is_said_in_one_line(tmp_path, capsys):
    given = f"--config={pipeline.ROOT}/configs/quickstart.py:tiny"
    for path in ("", str(tmp_path)):
        line = refused(capsys, given, "--against=pytorch", f"--peer_path={path}")
        assert "--peer_path: no checkout of stylegan2-ada-pytorch" in line
        assert "training/networks.py" in line
    path = checkout(tmp_path / "ada", "raise RuntimeError('broken\\nhere')")
    fake = f"--peer_python={tmp_path / 'none'}"
    line = refused(capsys, given, "--against=pytorch", f"--peer_path={path}", fake)
    assert "--peer_python" in line
    # Interpreters that find no torch, or another one, whatever is installed here.
    for torch, words in (("raise ImportError('not here')", "cannot import torch (not here)"),
                         ("set_num_threads = set_flush_denormal = manual_seed = print",
                          "its networks cannot be built (RuntimeError: broken")):  # fmt: skip
        (tmp_path / "torch.py").write_text(torch)
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        line = refused(capsys, given, "--against=pytorch", f"--peer_path={path}",
                       f"--peer_python={python}")  # fmt: skip
        assert words in line
    line = refused(capsys, "--features", "--against=torch-fidelity", f"--peer_python={python}")
    assert "torch-fidelity cannot be used" in line
    assert "--peer_python" in line
    python.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(InputError, match="exit code 3"):
        Peer(path, str(python), config_of(), 1, "cpu")


def test_features_are_timed_beside_the_same_network(tmp_path, capsys, monkeypatch):
    stored = json.loads(inception_numbers.FILE.read_text())["convolutions"].values()
    parameters = sum(math.prod(shape) + 2 * shape[0] for shape in stored) + 2049 * 1008
    seconds = {"features": 0.2, "frechet": 3.0, "kid": 0.5}
    ours = lambda: lambda program, times: seconds[program] * times

    class Slower:
        facts = {"parameters": parameters, "torch": "2"}

        def __call__(self, program, times):
            return 1.5 * seconds[program] * times

    monkeypatch.setattr(bench_features, "Ours", ours)
    monkeypatch.setattr(bench_peer, "fidelity", lambda *args: contextlib.nullcontext(Slower()))
    bench.main(["launch/bench.py", "--features", "--against=torch-fidelity", "--seconds=1"])
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["parameters"] == parameters
    assert found["ms"]["set"]["median"] == pytest.approx(1000 * (0.2 * 2000 / 32 + 3.5))
    for ratio in found["speed_over_peer"].values():
        assert ratio["median"] == pytest.approx(1.5)
    assert "1.50 [1.50, 1.50]" in said.err
    Slower.facts["parameters"] = 7
    line = refused(capsys, "--features", "--against=torch-fidelity")
    assert "its network has 7 parameters" in line
    assert "without" in refused(capsys, "--features", "--against=pytorch")


@pytest.fixture
def celeba_files(tmp_path, monkeypatch):
    make_celeba.make(tmp_path / "celeba", 16)
    monkeypatch.setattr(bench_input, "BATCH", 8)
    return (f"--config={pipeline.ROOT}/configs/celeba_bias09.py",
            f"--config.data.celeba.dir={tmp_path / 'celeba'}")  # fmt: skip


def test_input_is_timed_beside_the_same_work(celeba_files, capsys):
    bench.main(["launch/bench.py", *celeba_files, "--input", "--seconds=0.3"])
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["same_pixels"]
    assert (found["images"], found["form"]["crop"]) == (16, "celeba140")
    assert "plain loop" in said.err
    assert "DataLoader" not in said.err
    for program in ("zip", "folder", "cache"):
        ours, loop = (found["images_per_second"][side][program]["median"]
                      for side in ("ours", "pillow"))  # fmt: skip
        assert found["speed_over"]["pillow"][program]["median"] == pytest.approx(ours / loop, 0.1)
    line = refused(capsys, celeba_files[0], "--input", "--config.data.celeba.dir=none")
    assert "img_align_celeba.zip" in line
    assert "without --features" in refused(capsys, "--features", "--input")


@pytest.mark.parametrize("crop", ["celeba140", "center"])
def test_all_sides_of_the_input_make_the_same_images(celeba_files, monkeypatch, crop):
    """With a torch that only hands on arrays: the test environment has none."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=lambda array: array))
    config = bench._parsed(["bench.py", *celeba_files, f"--config.data.crop={crop}"])[1]
    with bench_input.files(config) as files:
        ours, plain = bench_input.Ours(files), bench_input.PlainLoop(files)
        pictures = {"zip": bench_loader.Pictures(files, True),
                    "folder": bench_loader.Pictures(files, False)}  # fmt: skip
        for program in ("zip", "folder"):
            for batch in range(2):
                made = next(ours.next[program])
                assert made.shape == (8, 64, 64, 3)
                np.testing.assert_array_equal(made, next(plain.next[program]))
                theirs = [pictures[program][8 * batch + i] for i in range(8)]
                np.testing.assert_array_equal(made, theirs)
        np.testing.assert_array_equal(bench_loader.Prepared(files)[15], made[7])
        assert len(next(ours.next["cache"])) == len(next(plain.next["cache"])) == 8


def test_help_lists_every_flag(capsys):
    bench.main(["launch/bench.py", "--help"])
    said = capsys.readouterr().out
    names = ("config", "arm", "seconds", "against", "peer_path", "peer_python", "[no]start", "out")
    assert all(f"--{name}" in said for name in names)
