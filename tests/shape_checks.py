"""The run-time checker of all annotations in the package; pytest switches it on (see pyproject.toml)."""

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

NUMBERS = FrozenDict({float: float | int | np.floating, int: int | np.integer})
"""A whole number will do where a float is wanted (PEP 484), and NumPy's scalars are numbers."""

checked = beartype(conf=BeartypeConf(hint_overrides=NUMBERS))
