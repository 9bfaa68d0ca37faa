"""Draws images from a trained generator: python launch/sample.py --generator=DIR --out=DIR"""

from fairjax.experiments.sample import main

if __name__ == "__main__":
    main()
