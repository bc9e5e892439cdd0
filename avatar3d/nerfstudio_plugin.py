"""What nerfstudio finds of avatar3d: the method `avatar3d-distill` of `ns-train`, by an entry point.

nerfstudio loads all entry points when it starts and catches nothing, so this module imports nothing that can fail,
and looking up `distill_method` never raises.
"""

from __future__ import annotations

import logging
from typing import Any


def __getattr__(name: str) -> Any:
    """`distill_method`: nerfstudio's specification of our method, or None, which nerfstudio passes over with a
    warning, when a part of nerfstudio or avatar3d can not be imported."""
    if name != "distill_method":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from avatar3d.nerfstudio_model import specification

        return specification()
    except Exception as error:
        logging.getLogger(__name__).warning(
            "avatar3d-distill is left out of nerfstudio's methods (%s: %s). `pip install 'avatar3d[nerfstudio]'` "
            "installs what it needs; all other methods are as they were",
            type(error).__name__,
            error,
        )
        return None
