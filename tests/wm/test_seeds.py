"""Streams by name: the same name is the same stream, another name another."""

from hypothesis import given
from hypothesis import strategies as st

from wm import seeds

PART = st.one_of(st.text("abc", min_size=1, max_size=3), st.integers(0, 2**31 - 1))
NAMES = st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.tuples(PART, PART)] * n))
"""Pairs of names of one length: a family of streams always has as many parts in its names."""


@given(st.integers(0, 2**31 - 1), NAMES)
def test_a_stream_is_its_name(seed: int, pairs: tuple) -> None:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    same = seeds.integer(seed, *first) == seeds.integer(seed, *second)
    assert same == (first == second)
    assert 0 <= seeds.integer(seed, *first) < 2**31
    assert seeds.generator(seed, *first).random() == seeds.generator(seed, *first).random()


def test_a_word_is_not_the_number_of_its_checksum() -> None:
    import zlib

    assert seeds.integer(1, "a") != seeds.integer(1, zlib.crc32(b"a"))
