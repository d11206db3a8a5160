"""`python -m hetsim` is the command `hetsim`."""

from hetsim.cli import main

main()
