"""What goes wrong when an avatar is written."""

from __future__ import annotations

from avatar3d.errors import InputError


class ExportError(InputError, ValueError):
    """An avatar that can not be written in a format, or a program that this needs; with the remedy."""
