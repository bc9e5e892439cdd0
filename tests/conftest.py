"""Numba compiles plain functions: what the shape checker has wrapped is unwrapped on its way into `njit`."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numba

_njit = numba.njit


def _njit_of_plain(*arguments, **options) -> Callable:
    if arguments and callable(arguments[0]):
        return _njit(inspect.unwrap(arguments[0]), *arguments[1:], **options)
    compiler = _njit(*arguments, **options)
    return lambda function: compiler(inspect.unwrap(function))


numba.njit = _njit_of_plain
