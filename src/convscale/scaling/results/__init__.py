"""Results: a scaled network as it is checked, described, noted and stored."""
