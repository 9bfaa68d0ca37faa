"""The program on the other side of `launch/bench.py --against=..`; it answers until stdin ends.

    PYTHON bench_worker.py SCRIPT

runs in an interpreter that need not have fairjax, so it and the script import nothing of it. The
script's `begin(first request) -> (timer or None, facts)` starts its side; `timer.time(program,
times)` is in seconds. One JSON request a line on stdin, one JSON answer a line on stdout.
"""

import json
import os
import runpy
import sys


def main():
    # What others print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    begin = runpy.run_path(sys.argv[1])["begin"]
    timer = None
    for line in sys.stdin:
        request = json.loads(line)
        if timer is None:
            timer, answer = begin(request)
        else:
            answer = {"seconds": timer.time(request["program"], request["times"])}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
