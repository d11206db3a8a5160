"""What to make of repeated timings: as `hetsim.medians` does everywhere."""

from hetsim.medians import OUTLIER, Summary, summarise

__all__ = ["OUTLIER", "Summary", "summarise"]
