"""Channels: what operators say about units, and the independent widths that follow from it."""
