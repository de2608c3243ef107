"""Run the report as `python -m lemer.evaluation.report RUNS_DIR`."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
