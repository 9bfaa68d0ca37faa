"""Runs an experiment: python launch/train.py --config=configs/quickstart.py

The same command resumes a run that was interrupted; finished stages are not repeated.
"""

from fairjax.experiments.command import main

if __name__ == "__main__":
    main()
