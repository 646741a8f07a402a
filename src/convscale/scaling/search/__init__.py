"""Search: from a strategy and a target to sizes that can be built."""
