"""Noise that hides a row: from the operating system's entropy, never seeded, stored or replayed.

A user's seed decides initial weights and what is drawn from a finished model. It must not reach
this module: who knows the seed could subtract the noise.

Limits: counts get integer noise, whose law the accountant knows exactly; gradients get normal noise
in float64, summed from four draws (Holohan & Braghin 2021). Timing is out of scope.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def stability_threshold(std: float, delta: float) -> int:
    """Return the least t with ``P(1 + noise >= t) <= delta`` for discrete Gaussian noise.

    A value that one row alone has is shown with probability `delta` at most, if values are shown
    whose noisy count reaches t (Korolova et al. 2009; Desfontaines, Voss & Gipson 2022).
    """
    reach = int(40 * std) + 2
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * std**2))
    above = weights[::-1].cumsum()[::-1] / weights.sum()  # P(noise >= x) for x from -reach on
    return 1 - reach + int((above > delta).sum())


class Noise:
    """A stream of noise that nobody can repeat."""

    def __init__(self) -> None:
        entropy = int.from_bytes(secrets.token_bytes(32))
        self._stream = np.random.Generator(np.random.PCG64DXSM(entropy))

    def __reduce__(self) -> str:
        raise TypeError("noise cannot be stored")

    def discrete_gaussian(self, std: float, size: int) -> Counts:
        """Return (size,) integers, P(x) proportional to exp(-x^2 / (2 std^2)).

        Canonne, Kamath & Steinke 2020, algorithm 3: discrete Laplace, then rejection.
        """
        scale = int(std) + 1
        out = np.zeros(size, np.int64)
        todo = np.arange(size)
        while len(todo):
            a, b = self._stream.geometric(-np.expm1(-1 / scale), (2, len(todo)))
            drawn = a - b
            log_keep = -((np.abs(drawn) - std**2 / scale) ** 2) / (2 * std**2)
            kept = self._stream.random(len(todo)) < np.exp(log_keep)
            out[todo[kept]] = drawn[kept]
            todo = todo[~kept]
        return out

    def counts(self, exact: npt.ArrayLike, std: float) -> Counts:
        """Return integer counts, of any shape, with discrete Gaussian noise on each."""
        exact = np.asarray(exact, np.int64)
        return exact + self.discrete_gaussian(std, exact.size).reshape(exact.shape)

    def normal(self, std: float, size: int) -> Floats:
        """Return (size,) normal numbers, each from four draws."""
        return np.asarray(self._stream.standard_normal((4, size)).sum(axis=0) * (std / 2))

    def choose(self, scores: Floats, epsilon: float, sensitivity: float) -> int:
        """Return an index by the exponential mechanism (as the largest of scores plus Gumbel)."""
        noisy = scores * (epsilon / (2 * sensitivity)) + self._stream.gumbel(size=len(scores))
        return int(noisy.argmax())

    def poisson(self, n: int, rate: float) -> Counts:
        """Return the indices of a Poisson sample: each of n rows takes part by its own coin."""
        return np.flatnonzero(self._stream.random(n) < rate)

    def secret_seed(self) -> int:
        """Return a fresh 63-bit seed for another library's stream that must stay unknown too."""
        return secrets.randbits(63)
