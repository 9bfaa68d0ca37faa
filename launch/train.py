"""Runs an experiment: python launch/train.py --config=configs/quickstart.py

The same command resumes a run that was interrupted; finished stages are not repeated.
"""

from fairjax.experiments.large_pages import begin_again

if __name__ == "__main__":
    begin_again()  # before JAX is imported

    from fairjax.experiments.command import main

    main()
