"""Random streams by name: every draw in the project comes from a generator made here."""

import zlib

import numpy as np


def sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """The seed sequence of the stream called `names` under `seed`.

    Names are words ("rollouts", "carracing") or indices (an episode's number); streams of different names
    are independent, and the stream of one episode does not depend on how many others there are.
    """
    words = [zlib.crc32(name.encode()) if isinstance(name, str) else name for name in names]
    kinds = [int(isinstance(name, str)) for name in names]  # a word never equals an index
    pairs = (value for pair in zip(kinds, words, strict=True) for value in pair)
    return np.random.SeedSequence([seed, len(names), *pairs])  # NumPy takes trailing zeros for nothing


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator of the stream called `names` under `seed`."""
    return np.random.Generator(np.random.PCG64(sequence(seed, *names)))


def integer(seed: int, *names: str | int) -> int:
    """A seed for a library that wants an integer: the first word of the stream, in [0, 2**31)."""
    return int(sequence(seed, *names).generate_state(1)[0] >> 1)
