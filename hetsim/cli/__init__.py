"""The command line: parse, call, render. The only place that knows calibration and executor.

Exit codes: 0 well; 1 a fault of hetsim's own; 2 bad usage or bad input; 3 no feasible plan; 4 a threshold was crossed;
5 calibration failed; 6 a rank of the real run failed; 130 interrupted.
"""

from hetsim.cli.app import main

__all__ = ["main"]
