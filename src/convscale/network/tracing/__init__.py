"""Tracing: one run, and all that it shows of channels and of the borders of modules."""
