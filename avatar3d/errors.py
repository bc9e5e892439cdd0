"""What all errors have in common that a user can mend."""

from __future__ import annotations


class InputError(Exception):
    """Something is wrong with what was given; the message names the fault and the remedy. Exit code 2."""
