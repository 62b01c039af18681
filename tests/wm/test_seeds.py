"""Streams by name: the same name is the same stream, another name another."""

from hypothesis import example, given
from hypothesis import strategies as st

from wm import seeds

PART = st.one_of(st.text("abc", min_size=1, max_size=3), st.integers(0, 2), st.integers(0, 2**31 - 1))
NAMES = st.lists(PART, max_size=4)


@given(st.integers(0, 2**31 - 1), NAMES, NAMES)
@example(1, ["a"], ["a", 0])
def test_a_stream_is_its_name(seed: int, first: list, second: list) -> None:
    same = seeds.integer(seed, *first) == seeds.integer(seed, *second)
    assert same == (first == second)
    assert 0 <= seeds.integer(seed, *first) < 2**31
    assert seeds.generator(seed, *first).random() == seeds.generator(seed, *first).random()


def test_a_word_is_not_the_number_of_its_checksum() -> None:
    import zlib

    assert seeds.integer(1, "a") != seeds.integer(1, zlib.crc32(b"a"))
