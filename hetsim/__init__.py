"""hetsim: how to train one network on unlike accelerators."""

__version__ = "0.1.0"
