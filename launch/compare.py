"""Compares methods over many runs: python launch/compare.py configs/sweeps/paper_grid.jsonl"""

from fairjax.experiments.compare import main

if __name__ == "__main__":
    main()
