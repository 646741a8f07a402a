"""What is known not to work with networks of the zoo: kept honest by tests that fail otherwise."""

from __future__ import annotations

# Networks without blocks: their layers are called by name.
NAMED = frozenset(
    (
        "view of a computed size",
        "weight norm",
        "gray",
        "coordinates as channels",
        "parameters of its own",
        "three dimensions",
        "raw audio",
        "without channels",
        "spectrum",
        "points",
        "repeated input",
        "slow and fast",
        "flattened clip",
        "frames one by one",
        "spectrogram",
        "along channels",
        "channels as depth",
        "wavelets",
        "aligned points",
    )
)

# Networks whose layers expect a map of one size.
FIXED_SIDE = frozenset(
    ("view of a computed size", "gray", "flattened clip", "joints", "rebuilt in training")
)

# Networks that come out wrong, by what is asked of them.
WRONG: dict[tuple[str, str], str] = {}
