"""One seed, many named and independent streams. Nothing here touches a global random state.

>>> a, b = stream(7, "split"), stream(7, "split")
>>> bool((a.random(3) == b.random(3)).all())
True
>>> bool(stream(7, "split").random() == stream(7, "sample", 0).random())
False
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np


def fresh_seed() -> int:
    """Return a new seed in [0, 2**31), from the operating system's entropy."""
    return secrets.randbits(31)


def seed_or_fresh(seed: int | None) -> int:
    """Return `seed`, or a fresh one where none was given."""
    return fresh_seed() if seed is None else seed


def derive(seed: int, *names: str | int) -> int:
    """Return the 63-bit seed of the stream that `names` identify under `seed`.

    Equal arguments give equal seeds on every machine; other names give unrelated ones (BLAKE2b).
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the numpy generator of the named stream: ``stream(seed, "sample", block)``."""
    return np.random.Generator(np.random.PCG64DXSM(derive(seed, *names)))
