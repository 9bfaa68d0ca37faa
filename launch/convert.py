"""Converts trained networks: python launch/convert.py --source=FILE_OR_DIR --out=FILE_OR_DIR"""

from fairjax.experiments.convert import main

if __name__ == "__main__":
    main()
