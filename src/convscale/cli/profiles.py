"""`convscale profiles`: the device profiles that predictions can be made by."""

from __future__ import annotations

from typing import Any

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.errors import InputError


def profiles(profile: options.ProfileName = None, json: options.Json = False) -> Answer:
    """List the device profiles, or show one: its conditions, its range and its errors.

    Example:
        >>> profiles("no-such-profile")
        Traceback (most recent call last):
        convscale.errors.InputError: Unknown profile 'no-such-profile'. ...
    """
    from convscale.prediction import store
    from convscale.prediction.profile_file import as_document
    from convscale.report.profiles import profile_table, profiles_table

    if profile is not None:
        found = store.profile_of(profile)
        return {"network": None, **as_document(found)} if json else [profile_table(found)]
    entries = store.profiles()
    if json:
        return {"schema_version": 1, "network": None, "profiles": [*map(_row, entries)]}
    return [profiles_table(entries, store.own_folder())]


def _row(entry: Any) -> dict[str, object]:
    from convscale.prediction.profile_file import as_document

    row: dict[str, object] = {"name": entry.name, "path": str(entry.path), "shipped": entry.shipped}
    if entry.profile is None:
        return {**row, "mistake": entry.mistake}
    document = as_document(entry.profile)
    shown = ("version", "execution", "conditions", "range", "errors")
    return {**row, **{name: document[name] for name in shown}}


def no_profile(reason: str) -> InputError:
    """Return the error for a command that needs a profile, and was given none.

    Example:
        >>> no_profile("A prediction needs a profile").line.partition(" NAME")[0]
        'A prediction needs a profile: --profile'
    """
    from convscale.prediction import store

    known = tuple(store.profile_paths())
    return InputError(f"{reason}: --profile NAME. {store.existing(known)}")
