"""The run-time checker of all annotations in the package; pytest switches it on (see pyproject.toml)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As PEP 484 has it, a whole number will do where a float is wanted."""
