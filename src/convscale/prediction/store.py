"""Where profiles are: shipped with the package, in the user's folders, or in a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convscale.errors import InputError, near_names
from convscale.prediction.profile import Profile
from convscale.prediction.profile_file import NAME, SUFFIX, read_profile, write_profile

FOLDERS = "CONVSCALE_PROFILES"  # folders of one's own, separated like those of PATH
_SHIPPED = Path(__file__).parent / "profiles"

ProfileLike = str | Path | Profile


@dataclass(frozen=True)
class Entry:
    """A profile that a name finds: where it is, and what is wrong with its file if it is.

    Example:
        >>> Entry("mine", Path("mine.json"), None, "mine.json holds no JSON.").shipped
        False
    """

    name: str
    path: Path
    profile: Profile | None
    mistake: str = ""

    @property
    def shipped(self) -> bool:
        """Whether it came with the package."""
        return self.path.parent == _SHIPPED


def own_folder() -> Path:
    """Return the folder in which profiles of the user's own are written.

    It is the first of the environment's CONVSCALE_PROFILES, else `convscale/profiles` in
    XDG_DATA_HOME (by default ~/.local/share).

    Example:
        >>> own_folder().name != ""
        True
    """
    return _own_folders()[0]


def _own_folders() -> list[Path]:
    given = [part for part in os.environ.get(FOLDERS, "").split(os.pathsep) if part.strip()]
    if given:
        return [Path(part).expanduser() for part in given]
    data = os.environ.get("XDG_DATA_HOME", "")
    home = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    return [home / "convscale" / "profiles"]


def profile_paths() -> dict[str, Path]:
    """Return the files of all profiles by name; the user's come before those of the package.

    Example:
        >>> all(path.suffix == ".json" for path in profile_paths().values())
        True
    """
    found: dict[str, Path] = {}
    for folder in (*_own_folders(), _SHIPPED):
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
            if not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def profiles() -> tuple[Entry, ...]:
    """Return all profiles that names find; a damaged file is an entry that says what is wrong.

    Example:
        >>> [entry.mistake for entry in profiles() if entry.shipped and entry.profile is None]
        []
    """
    return tuple(_entries())


def _entries() -> Iterator[Entry]:
    for name, path in profile_paths().items():
        try:
            yield Entry(name, path, read_profile(path))
        except InputError as error:
            yield Entry(name, path, None, error.line)


def profile_of(profile: ProfileLike) -> Profile:
    """Return a profile by its name or the path of its file; a profile is returned as it is.

    Raises:
        InputError: If there is none; those that exist are named. Or if its file is damaged.

    Example:
        >>> profile_of("no-such-profile")
        Traceback (most recent call last):
        convscale.errors.InputError: Unknown profile 'no-such-profile'. ...
    """
    if isinstance(profile, Profile):
        return profile
    if not isinstance(profile, str | Path):
        raise InputError(f"{profile!r} is no profile. Give a name, a JSON file or a Profile.")
    known = profile_paths()
    if str(profile) in known:
        return read_profile(known[str(profile)])
    if _is_path(profile):
        return read_profile(Path(profile).expanduser())
    near = near_names(str(profile), known)
    raise InputError(f"Unknown profile {str(profile)!r}.{near} {existing(tuple(known))}")


def _is_path(profile: str | Path) -> bool:
    text = str(profile)
    return isinstance(profile, Path) or text.endswith(SUFFIX) or os.sep in text


def existing(names: tuple[str, ...]) -> str:
    """Say which profiles there are, and how another is made.

    Example:
        >>> existing(("mine", "yours"))
        "Profiles are mine and yours; write one of them, the JSON file of one, or make one by
        'convscale calibrate'."
    """
    if not names:
        return "There are no profiles yet: make one by 'convscale calibrate'."
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    are = "Profiles are" if len(names) > 1 else "The only profile is"
    return (
        f"{are} {listed}; write one of them, the JSON file of one, or make one by "
        "'convscale calibrate'."
    )


def save_profile(profile: Profile, path: str | Path | None = None) -> Path:
    """Write a profile: to a file, or where its name finds it from then on.

    Args:
        profile: The profile.
        path: The file, or a folder; by default the user's own folder.

    Returns:
        The file.

    Raises:
        InputError: If its name or what it holds is wrong, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> from convscale.prediction.form import Execution, coefficients_of
        >>> from convscale.prediction.profile import Band, Seen
        >>> seen = Seen((1, 8), (224.0, 224.0), (1e9, 2e9), (8.0, 64.0), ("linear",))
        >>> execution = Execution("cpu", dtype="float32")
        >>> rates = coefficients_of(execution)
        >>> profile = Profile("mine", execution, rates, seen, (Band(0.9, 0.8, 1.2),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_profile(profile, folder).name
        'mine.json'
    """
    return write_profile(profile, _target(profile, path))


def _target(profile: Profile, path: str | Path | None) -> Path:
    target = own_folder() if path is None else Path(path)
    if path is None or target.is_dir():
        target = target / f"{profile.name}{SUFFIX}"
    return target


def replaced_by(profile: Profile, path: str | Path | None = None) -> int | None:
    """Return the version of the profile that `save_profile` would replace; None without one.

    A file that holds no profile counts as version 0.

    Args:
        profile: The profile that is to be saved.
        path: Where, as `save_profile` takes it.

    Example:
        >>> import tempfile
        >>> mine = profile_of("rtx3090-amp-nchw")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = replaced_by(mine, folder)
        ...     _ = save_profile(mine, folder)
        ...     first, replaced_by(mine, folder) == mine.version
        (None, True)
    """
    target = _target(profile, path)
    if not target.exists():
        return None
    try:
        return read_profile(target).version
    except InputError:  # damaged, or of another schema: there is no version to go on from
        return 0


def check_name(name: str) -> str:
    """Return the name of a profile, from which the name of its file follows.

    Raises:
        InputError: If it cannot be one.

    Example:
        >>> check_name("my box")
        Traceback (most recent call last):
        convscale.errors.InputError: 'my box' cannot be the name of a profile. Use letters,
        digits, '.', '_' and '-', and begin with a letter or a digit: mybox.
    """
    if re.fullmatch(NAME, name) is None:
        raise InputError(
            f"{name!r} cannot be the name of a profile. Use letters, digits, '.', '_' and '-', "
            "and begin with a letter or a digit: mybox."
        )
    return name
