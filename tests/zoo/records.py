"""What is known not to work with networks of the zoo: kept honest by tests that fail otherwise."""

from __future__ import annotations

# Networks without blocks that can be repeated: depth is refused with a sentence that says so.
FLAT = frozenset(
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
NO_DEPTH = (
    r"^Strategy 'dWr' scales depth, but (the network has no stage of blocks that can be repeated|"
    r"its forward pass runs no block that is added \(at .*\): it must iterate over them|"
    r"none of its blocks can be repeated \(at .*\): each changes the shape of what it takes, and "
    r"no block like it keeps it)\. "
    r"Leave it out: --keep d, or use a strategy without d, such as wr\.$"
)

# Networks whose layers expect a map of one size.
FIXED_SIDE = frozenset(
    ("view of a computed size", "gray", "flattened clip", "joints", "rebuilt in training")
)

# Networks that come out wrong, by what is asked of them.
WRONG: dict[tuple[str, str], str] = {}
