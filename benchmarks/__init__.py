"""Commands that measure how accurate hetsim is."""
