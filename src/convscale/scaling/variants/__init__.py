"""Variants: a network at other widths, depths and resolutions, counted without being built."""
