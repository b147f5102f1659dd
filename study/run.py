"""Reproduce the paper's figures in small, on the demo model: fine-tune, sample, judge, report.

Results are kept cell by cell in docs/results/cells; a stopped study goes on where it was. What is done stands in plan.py.
Run from the repository root: python -m study.run core, a night of two processors, or python -m study.run wide, for a GPU.
"""

from __future__ import annotations

import argparse

from study.plan import PLANS
from study.report import write_report
from study.work import add_options, do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", choices=[*PLANS], help="core: for two processors. wide: for a GPU")
    parser.add_argument("--report", action="store_true", help="only write the report from what is there")
    add_options(parser)
    given = parser.parse_args()
    if not given.report:
        do(PLANS[given.plan], given, "study.run")
    write_report()


if __name__ == "__main__":
    main()
