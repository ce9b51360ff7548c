"""The kernel's random numbers against published ones.

xoroshiro128++ and splitmix64 are written down a second time here, in Python's own integers, from their published recurrences (Blackman and Vigna,
"Scrambled linear pseudorandom number generators", ACM Transactions on Mathematical Software 47, 2021, algorithm "xoroshiro128++ 1.0"; Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). That copy is held against outputs that others publish:

* splitmix64 with seed 1234567: Rosetta Code, "Pseudo-random numbers/Splitmix64";
* xoroshiro128++ seeded by splitmix64 with 0 and with 0x1a26f3fa8546b47a: Bitcoin Core, test case "xoroshiro128plusplus_reference_values", generated
  there from the authors' reference program.

Then the compiled kernel is held against the copy, through what it is for: a task with 4096 actions of reward ``a`` and discount 1/4096, under the
uniform policy, returns the leading twelve bits of its random numbers as digits of one number.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from surefoot import Simulator, TabularCMDP
from surefoot.cmdp.simulate import _mix, _rotate

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
DIGIT, DIGITS = 4096, 4


def rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (64 - k))) & MASK


def mix(z: int) -> int:
    """The output function of splitmix64."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def splitmix64(seed: int) -> Iterator[int]:
    while True:
        seed = (seed + GOLDEN) & MASK
        yield mix(seed)


def xoroshiro128pp(s0: int, s1: int) -> Iterator[int]:
    while True:
        yield (rotate((s0 + s1) & MASK, 17) + s0) & MASK
        s1 ^= s0
        s0, s1 = rotate(s0, 49) ^ s1 ^ ((s1 << 21) & MASK), rotate(s1, 28)


def stream(seed: int, episode: int) -> Iterator[int]:
    """The random numbers of one episode, as the module's docstring of the simulator defines them."""
    key = next(splitmix64(seed))
    (number,) = islice(splitmix64(0), episode, episode + 1) if episode < 1000 else (mix((episode + 1) * GOLDEN & MASK),)
    s0 = mix(key ^ number)
    return xoroshiro128pp(s0, next(splitmix64(s0)))


def test_splitmix64_is_the_published_one() -> None:
    published = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    assert list(islice(splitmix64(1234567), 5)) == published


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        (0, [0x6F68E1E7E2646EE1, 0xBF971B7F454094AD, 0x48F2DE556F30DE38, 0x6EA7C59F89BBFC75]),
        (0x1A26F3FA8546B47A, [0xC8DC5E08D844AC7D, 0x5B5F1F6D499DAD1B, 0xBEB0031F93313D6F, 0xBFBCF4F43A264497]),
    ],
)
def test_xoroshiro_is_the_published_one(seed: int, published: list[int]) -> None:
    state = splitmix64(seed)
    assert list(islice(xoroshiro128pp(next(state), next(state)), 4)) == published


@pytest.mark.parametrize("word", [0, 1, 1234567, GOLDEN, MASK, 2**63])
def test_the_compiled_parts_are_the_published_ones(word: int) -> None:
    assert int(_mix(np.uint64(word))) == mix(word)
    for k in (17, 28, 49):
        assert int(_rotate(np.uint64(word), k)) == rotate(word, k)


@pytest.fixture(scope="module")
def spelling() -> Simulator:
    """A task whose returns spell out random numbers."""
    actions = np.arange(DIGIT, dtype=float)
    cmdp = TabularCMDP(np.ones((1, DIGIT, 1)), actions[None], np.zeros((0, 1, DIGIT)), [], [1.0], 1.0 / DIGIT)
    simulator = Simulator(cmdp, np.full((1, DIGIT), 1.0 / DIGIT), tail_tolerance=1.5 * float(DIGIT) ** (1 - DIGITS))
    assert simulator.horizon == DIGITS
    return simulator


@pytest.mark.parametrize("seed", [0, 1, 2601_21845, 2**63 - 1])
@pytest.mark.parametrize("first", [0, 7, 2**40])
def test_the_kernel_draws_the_published_numbers(spelling: Simulator, seed: int, first: int) -> None:
    found = spelling.run(np.zeros(5, dtype=int), seed=seed, first_episode=first).returns
    for k, value in enumerate(found):
        digits = [int(value * DIGIT**t) % DIGIT for t in range(DIGITS)]
        assert digits == [word >> 52 for word in islice(stream(seed, first + k), DIGITS)]
