"""The networks: a zoo built from numbers, and the intake of any `nn.Sequential` as a chain of layers. Imports torch."""
