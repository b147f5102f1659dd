"""The host's own choice on what files say of how they were made: its flag --disable-metadata."""

from __future__ import annotations

from comfy.cli_args import args


def is_metadata_disabled() -> bool:
    """Return whether the server was started with --disable-metadata."""
    return bool(args.disable_metadata)
