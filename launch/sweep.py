"""Runs a grid: python launch/sweep.py --config=configs/sweeps/paper_grid.py
Or a search: python launch/sweep.py --config=configs/sweeps/digits_search.py

The same command goes on after an interruption; several at once share the work.
"""

from fairjax.experiments.sweep import main

if __name__ == "__main__":
    main()
