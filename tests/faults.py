"""Killed runs and damaged files: python tests/faults.py --kills=100 --corruptions=60 --out=F.jsonl

Kills: the command runs in a child that gets SIGKILL, its whole process group with it, at a random
instant or while it writes a file; then it runs again, until it ends by itself. What it computed
must be, bit by bit, what a run computed that nobody disturbed. Then a new workdir, until there were
so many kills.

Corruptions: one file of a finished or half-finished run, or of the cache of
images, is cut, flipped in one bit, emptied, lengthened or deleted. The next run must either end
with the same bits, or stop with exit code 2 and one line that names a folder to delete; without
this folder it must then end with the same bits. Only a picture or lines of the record of a
stage that was not finished may be lost; the run says so.

Each round is one line of --out, so that the script goes on where it was stopped. It ends at the
first round that ends otherwise. The config is that
of tests/pipeline.py (all stages, 8 px) with a shorter training; --config=FILE takes another.
Children are forks of one process that has imported everything, so that a round takes seconds.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pipeline

UNFINISHED = re.compile(
    r"\.draft$|\.part$|\.partial\.|tmp"
)  # names of files that are being written


def get_config():
    """That of tests/pipeline.py, with a sixth of the steps and a checkpoint after every tenth."""
    config = pipeline.get_config()
    config.gan.update(kimg=0.4, log_every_kimg=0.04, save_every_kimg=0.08, sample_every_kimg=0.2)
    config.eval.update(every_kimg=0.2)
    return config


def command(workdir: Path, config: str, *args: str) -> list[str]:
    """What the child is given."""
    return ["launch/train.py", config, f"--workdir={workdir}", *args]


@contextlib.contextmanager
def child(argv: list[str], cache: Path, said: Path) -> Iterator[int]:
    """Runs the command in a fork of this process, in a process group of its own; yields its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            os.chdir(pipeline.ROOT)
            with said.open("w") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(file.fileno(), 1)
            os.environ.update(pipeline.environment(cache))
            from fairjax.experiments.command import main

            main(argv)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    try:
        yield pid
    finally:
        end(pid)


def end(pid: int) -> None:
    """Kills a child and what it started; its group is there only a moment after it began."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def ended(pid: int) -> int | None:
    """The exit code of a child, negative where a signal ended it; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def whole(argv: list[str], cache: Path, said: Path, limit: float = 900.0) -> int:
    """Runs the command to its end; returns its exit code."""
    with child(argv, cache, said) as pid:
        begun = time.monotonic()
        while (code := ended(pid)) is None:
            assert time.monotonic() - begun < limit, said.read_text()[-2000:]
            time.sleep(0.02)
        return code


def writing(folders: list[Path]) -> bool:
    """Whether a file in one of the folders is being written."""
    for folder in folders:
        for _, names, files in os.walk(folder):
            if any(UNFINISHED.search(name) for name in [*names, *files]):
                return True
    return False


def killed(rng: random.Random, argv: list[str], workdir: Path, cache: Path, said: Path):
    """One run that is killed, unless it ends first: (exit code, what is known of the instant)."""
    in_write = rng.random() < 0.5
    # In writes: after so many that were seen. Else: seconds, often few, so that all stages are hit.
    wait = rng.randrange(8) if in_write else rng.choice([1.0, 4.0, 12.0]) * rng.random()
    with child(argv, cache, said) as pid:
        begun, seen, before = time.monotonic(), 0, False
        while (code := ended(pid)) is None:
            now = writing([workdir, cache]) if in_write else False
            seen += now and not before
            before = now
            if (now and seen > wait) if in_write else time.monotonic() - begun > wait:
                end(pid)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                break
            time.sleep(0.0005 if in_write else 0.01)
    begun_in = [str(f.parent.relative_to(workdir)) for f in sorted(workdir.rglob("STARTED"))
                if not (f.parent / "DONE").exists()]  # fmt: skip
    return code, {"in": begun_in or ["between"], "writing": in_write, "wait": round(wait, 2)}


def kill_round(rng: random.Random, straight: Path, base: Path, config: str, most: int) -> dict:
    """One workdir, killed again and again until it is finished."""
    workdir, cache, said = base / "run", base / "cache", base / "said"
    argv, kills, code = command(workdir, config), [], None
    while code != 0:
        if len(kills) < most:
            code, instant = killed(rng, argv, workdir, cache, said)
        else:
            code, instant = whole(argv, cache, said), {}
        text = said.read_text()
        if code not in (0, -signal.SIGKILL) or "Traceback" in text:
            return {"kills": kills, "wrong": f"exit {code}: {text[-3000:]}"}
        kills += [instant] if code else []
    return {"kills": kills, "wrong": pipeline.differences(straight, workdir)}


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if data else b"x"


def flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"x"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


HARMS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "cut": cut,
    "flipped": flip,
    "emptied": lambda data, rng: b"",
    "lengthened": lambda data, rng: data + b"\0more",
    "deleted": lambda data, rng: None,
}
# What nothing is computed from: logs, views of other files, and what says who holds the folder.
VIEWS = re.compile(r"^(log\.txt|command\.txt|versions\.json|lock|report/.*)$|events\.out")


def corruption(rng: random.Random, straight: Path, cache: Path, base: Path, config: str) -> dict:
    """Harms one file of a copy of the run and of the cache, and looks at what the next run does."""
    workdir, own, said = base / "run", base / "cache", base / "said"
    shutil.copytree(straight, workdir)
    shutil.copytree(cache, own, symlinks=True)
    stages = sorted((f.parent for f in workdir.rglob("DONE")),
                    key=lambda f: (f / "DONE").stat().st_mtime_ns)  # fmt: skip
    if rng.random() < 0.7:  # as if it had been stopped in this stage, or just before its end
        first = rng.randrange(len(stages))
        (stages[first] / "DONE").unlink()
        for later in stages[first + 1 :]:
            shutil.rmtree(later)
    kinds: dict[str, list[Path]] = {}
    for root in (workdir, own):
        for file in sorted(root.rglob("*")):
            inside = file.relative_to(root)
            if file.is_file() and "xla" not in inside.parts and not VIEWS.search(str(inside)):
                kind = "checkpoint" if "checkpoints" in inside.parts else file.suffix or file.name
                kinds.setdefault(kind, []).append(file)
    file = rng.choice(kinds[rng.choice(sorted(kinds))])
    name = rng.choice(sorted(HARMS))
    data = HARMS[name](file.read_bytes(), rng)
    file.unlink() if data is None else file.write_bytes(data)
    found = {"file": str(file.relative_to(base)), "harm": name}
    argv = command(workdir, config)
    code = whole(argv, own, said)
    text = said.read_text()
    if code == 2:
        line = text.strip().splitlines()[-1]
        found["refused"] = line.replace(str(base), "")
        folder = re.search(r"Delete the (?:folder|file) (\S+) ", line)
        if folder is None or not folder.group(1).startswith(str(base)):
            return found | {"wrong": f"no way out: {line}"}
        shutil.rmtree(folder.group(1))
        code = whole(argv, own, said)
        text += said.read_text()
    if code or "Traceback" in text:
        return found | {"wrong": f"exit {code}: {text[-3000:]}"}
    # A picture or lines of the record of an unfinished stage are lost, and this is said.
    removed = re.findall(r"run/(\S+\.(?:png|jsonl)) is damaged", text)
    lost = [name for name in pipeline.differences(straight, workdir) if name not in removed]
    return found | {"removed": removed, "wrong": lost}


def undisturbed(base: Path, config: str) -> tuple[Path, Path]:
    """(workdir, cache) of a run that nobody disturbs; made once."""
    workdir, cache = base / "straight/run", base / "straight/cache"
    if not (workdir / "report/DONE").exists():
        (base / "straight").mkdir(parents=True, exist_ok=True)
        code = whole(command(workdir, config), cache, base / "straight/said")
        assert code == 0, (base / "straight/said").read_text()[-3000:]
    return workdir, cache


def main() -> None:
    """The experiment of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--corruptions", type=int, default=0)
    parser.add_argument("--config", default=str(Path(__file__).resolve()))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; goes on there")
    given = parser.parse_args()
    os.environ.update(pipeline.environment())  # JAX reads it when it is imported
    import fairjax.experiments.fair_generation  # noqa: F401  (so that the forks have it)
    from fairjax.experiments import dry_run, workdir  # noqa: F401

    config = given.config if given.config.startswith("--") else f"--config={given.config}"
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    rounds = [json.loads(line) for line in lines]
    base = given.out.with_suffix(".work").absolute()
    straight, cache = undisturbed(base, config)

    def killed_so_far() -> int:
        return sum(len(found.get("kills", ())) for found in rounds)

    def add(found: dict) -> None:
        rounds.append(found)
        with given.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        shutil.rmtree(base / "round", ignore_errors=True)
        print(json.dumps(found)[:300], flush=True)

    def harmed() -> int:
        return sum("harm" in found for found in rounds)

    def wrong() -> list[dict]:
        return [found for found in rounds if found["wrong"]]

    while not wrong() and (killed_so_far() < given.kills or harmed() < given.corruptions):
        rng = random.Random(f"{given.seed} {len(rounds)}")
        shutil.rmtree(base / "round", ignore_errors=True)
        (base / "round").mkdir()
        if harmed() < given.corruptions:
            add(corruption(rng, straight, cache, base / "round", config))
        else:
            add(kill_round(rng, straight, base / "round", config, given.kills - killed_so_far()))
    kills = [kill for found in rounds for kill in found.get("kills", ())]
    by_stage = {stage: sum(stage in kill["in"] for kill in kills)
                for stage in sorted({name for kill in kills for name in kill["in"]})}  # fmt: skip
    print(f"{len(kills)} kills, {sum(kill['writing'] for kill in kills)} of them while a file was "
          f"written; by stage: {by_stage}")  # fmt: skip
    print(f"{harmed()} corruptions, {sum('refused' in found for found in rounds)} refused")
    print(f"{len(wrong())} rounds did not end as the undisturbed run")
    sys.exit(1 if wrong() else 0)


if __name__ == "__main__":
    main()
