"""Widths: from an old width to a new one, alike wherever it stands."""
