"""Audits samples: python launch/audit.py --samples=DIR --labels=FILE.csv --reference=DIR --out=DIR

Needs no run of fairjax; flags: `--help`.
"""

from fairjax.experiments.audit import main

if __name__ == "__main__":
    main()
