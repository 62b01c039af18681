"""numba as the renderers use it."""

from collections.abc import Callable
from typing import Any

import numba

compiled: Callable[[Any], Any] = numba.njit(cache=True, _nrt=False)  # type: ignore[call-overload]
"""Compiled on first use, kept on disk, and without reference counts, which cost more than a short run of
pixels at every call: such a function must not allocate, and its caller holds every buffer.

The cache knows the function's own file alone: a compiled function calls none of another file and reads no
constant of one.
"""

inlined: Callable[[Any], Any] = numba.njit(cache=True, _nrt=False, inline="always")  # type: ignore[call-overload]
"""The same, put into its callers' bodies."""
