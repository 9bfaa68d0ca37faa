"""Killed runs, damaged files, jumping clocks, a slow disk: what is lost?

python tests/faults.py --kills=100 --corruptions=60 --jumps=5 --slow=5 --out=F.jsonl

Kills: the command runs in a child that gets SIGKILL, its whole process group with it, at a random
instant or while it writes a file; then it runs again, until it ends by itself. What it computed
must be, bit by bit, what a run computed that nobody disturbed. Then a new workdir, until there were
so many kills.

Corruptions: one file of a finished or half-finished run, of the cache of images or of input in the
format of CelebA is cut, flipped in one bit, emptied, lengthened or deleted; all kinds of files in
turn. The next run must either end with the same bits, or stop with exit code 2 and one line that
names a folder to delete; without this folder it must then end with the same bits. Only a picture
or lines of the record of a stage that was not finished may be lost; the run says so.

Jumps: runs whose wall clock jumps by up to 30 hours, back and forth, every second or so, killed
once on the way. Slow: runs in which whatever changes a file waits 20 ms first, killed three times
while they write. Both need a C compiler (`cc`) and Linux. The bits must be the same, and every rate
and time that the run writes must be sane.

Each round is one line of --out, so that the script goes on where it was stopped. It ends at the
first round that ends otherwise. The config is that
of tests/pipeline.py (all stages, 8 px) with a shorter training; --config=FILE takes another.
Children are forks of one process that has imported everything, so that a round takes seconds.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import disturbed
import pipeline
from children import child, command, end, ended, whole
from corruptions import corruption, input_corruption, make_input

UNFINISHED = re.compile(
    r"\.draft$|\.part$|\.partial\.|tmp"
)  # names of files that are being written
SLOW = 20_000  # microseconds


def get_config():
    """That of tests/pipeline.py, with a sixth of the steps and a checkpoint after every tenth."""
    config = pipeline.get_config()
    config.gan.update(kimg=0.4, log_every_kimg=0.04, save_every_kimg=0.08, sample_every_kimg=0.2)
    config.eval.update(every_kimg=0.2)
    return config


def writing(folders: list[Path]) -> bool:
    """Whether a file in one of the folders is being written."""
    for folder in folders:
        for _, names, files in os.walk(folder):
            if any(UNFINISHED.search(name) for name in [*names, *files]):
                return True
    return False


def killed(rng: random.Random, argv: list[str], workdir: Path, cache: Path, said: Path,
           share: float = 0.5, meanwhile: Callable[[], object] = bool):  # fmt: skip
    """One run that is killed, unless it ends first: (exit code, what is known of the instant).

    `share` is the probability that it is killed while it writes.
    """
    in_write = rng.random() < share
    # In writes: after so many that were seen. Else: seconds, often few, so that all stages are hit.
    wait = rng.randrange(8) if in_write else rng.choice([1.0, 4.0, 12.0]) * rng.random()
    with child(argv, cache, said) as pid:
        begun, seen, before = time.monotonic(), 0, False
        while (code := ended(pid)) is None:
            meanwhile()
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


def kill_round(rng: random.Random, straight: Path, base: Path, config: str, most: int,
               share: float = 0.5, meanwhile: Callable[[], object] = bool) -> dict:  # fmt: skip
    """One workdir, killed again and again, `most` times at most, until it is finished."""
    workdir, cache, said = base / "run", base / "cache", base / "said"
    argv, kills, code, all_said = command(workdir, config), [], None, ""
    began = time.monotonic()
    while code != 0:
        if len(kills) < most:
            code, instant = killed(rng, argv, workdir, cache, said, share, meanwhile)
        else:
            code, instant = whole(argv, cache, said, meanwhile=meanwhile), {}
        text = said.read_text()
        all_said += text
        if code not in (0, -signal.SIGKILL) or "Traceback" in text:
            return {"kills": kills, "wrong": f"exit {code}: {text[-3000:]}"}
        kills += [instant] if code else []
    wrong = pipeline.differences(straight, workdir)
    return {"kills": kills, "wrong": wrong + odd_times(workdir, all_said, time.monotonic() - began)}


def odd_times(workdir: Path, said: str, took: float) -> list[str]:
    """What a run wrote about time that cannot be, given the seconds that it took."""
    odd = [f"{f.parent.name}: {took_here} s" for f in workdir.rglob("DONE")
           if not 0 <= (took_here := json.loads(f.read_text())["seconds"]) <= took + 1]  # fmt: skip
    for file in workdir.rglob("metrics.jsonl"):
        rates = [json.loads(line).get("images_per_second", 1) for line in file.open()]
        odd += [f"{file.parent.name}: {rate} images/s" for rate in rates if not 0 < rate < 1e6]
    for line in re.findall(r".* left$", said, re.MULTILINE):
        if not re.search(r", (\?|(\d:)?\d{1,2}:\d\d|\d+ s) left$", line):
            odd.append(line)
    return odd


def jump_round(rng: random.Random, straight: Path, base: Path, config: str) -> dict:
    """One workdir under a wall clock that jumps, killed once."""
    jumps: list[float] = []
    due = time.monotonic()

    def jump() -> None:
        nonlocal due
        if time.monotonic() >= due:
            jumps.append(rng.uniform(-30, 30))
            disturbed.set_state(jumped=jumps[-1] * 3600)
            due = time.monotonic() + rng.uniform(0.2, 2)

    found = kill_round(rng, straight, base, config, 1, meanwhile=jump)
    disturbed.set_state()
    return {"jumps": len(jumps), "hours": round(max(map(abs, jumps)), 1)} | found


def slow_round(rng: random.Random, straight: Path, base: Path, config: str) -> dict:
    """One workdir on a slow disk, killed three times while it writes."""
    disturbed.set_state(wait=SLOW)
    found = kill_round(rng, straight, base, config, 3, share=1.0)
    disturbed.set_state()
    return {"slow": SLOW} | found


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
    for name in ("kills", "corruptions", "jumps", "slow", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--config", default=str(Path(__file__).resolve()))
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; goes on there")
    given = parser.parse_args()
    base = given.out.with_suffix(".work").absolute()
    base.mkdir(parents=True, exist_ok=True)
    if given.jumps or given.slow:
        disturbed.begin_again(base)
    os.environ.update(pipeline.environment())  # JAX reads it when it is imported
    import fairjax.experiments.fair_generation  # noqa: F401  (so that the forks have it)
    from fairjax.experiments import dry_run, workdir  # noqa: F401

    config = given.config if given.config.startswith("--") else f"--config={given.config}"
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    rounds = [json.loads(line) for line in lines]
    straight, cache = undisturbed(base, config)

    def done(kind: str) -> int:
        return sum(kind in found for found in rounds)

    def kills() -> list[dict]:
        return [kill for found in rounds for kill in found.get("kills", ())]

    def next_round(rng: random.Random, here: Path) -> dict | None:
        if (number := done("harm")) < given.corruptions:
            if number % 3 == 2:
                return input_corruption(rng, here, make_input(base / "input"), number // 3)
            return corruption(rng, straight, cache, here, config, number)
        if done("jumps") < given.jumps:
            return jump_round(rng, straight, here, config)
        if done("slow") < given.slow:
            return slow_round(rng, straight, here, config)
        if len(kills()) < given.kills:
            return kill_round(rng, straight, here, config, given.kills - len(kills()))
        return None

    while not any(found["wrong"] for found in rounds):
        here = base / "round"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        found = next_round(random.Random(f"{given.seed} {len(rounds)}"), here)
        shutil.rmtree(here, ignore_errors=True)
        if found is None:
            break
        rounds.append(found)
        with given.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found)[:300], flush=True)
    by_stage = {stage: sum(stage in kill["in"] for kill in kills())
                for stage in sorted({name for kill in kills() for name in kill["in"]})}  # fmt: skip
    print(f"{len(kills())} kills, {sum(kill['writing'] for kill in kills())} of them while a file "
          f"was written; by stage: {by_stage}")  # fmt: skip
    print(f"{done('harm')} corruptions, {done('refused')} refused")
    print(f"{sum(found.get('jumps', 0) for found in rounds)} jumps of the clock in {done('jumps')} "
          f"runs; {done('slow')} runs on a slow disk")  # fmt: skip
    wrong = [found for found in rounds if found["wrong"]]
    print(f"{len(wrong)} rounds did not end as the undisturbed run")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
