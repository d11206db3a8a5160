"""What would change: edits of a cluster, each variant planned anew, in time, money and energy."""
