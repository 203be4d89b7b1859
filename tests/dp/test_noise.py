import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from synthgen.dp.noise import Noise


def test_the_integer_noise_has_its_law() -> None:
    std, n = 2.5, 100_000
    drawn = Noise().discrete_gaussian(std, n)
    values = np.arange(-12, 13)
    law = np.exp(-(values**2) / (2 * std**2))
    found = np.array([(drawn == v).sum() for v in values])
    assert found.sum() > n - 10
    p = stats.chisquare(found, law / law.sum() * found.sum()).pvalue
    assert p > 1e-6


@pytest.mark.parametrize("std", [0.3, 1.0, 30.0])
def test_the_scale_of_both_noises(std: float) -> None:
    n = 200_000
    assert Noise().normal(std, n).std() == pytest.approx(std, rel=0.01)
    values = np.arange(-400, 401)
    law = np.exp(-(values**2) / (2 * std**2))
    variance, fourth = ((law * values**power).sum() / law.sum() for power in (2, 4))
    # Small noise is nearly always 0, so its variance is found less exactly: six standard errors.
    slack = 6 * np.sqrt((fourth - variance**2) / n)
    assert Noise().discrete_gaussian(std, n).var() == pytest.approx(variance, abs=slack)


def test_noise_is_fresh() -> None:
    a, b = Noise(), Noise()
    first, second, other = a.normal(1, 20_000), a.normal(1, 20_000), b.normal(1, 20_000)
    for x, y in ((first, second), (first, other)):
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.05


def test_noise_cannot_be_copied_or_stored() -> None:
    for attempt in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be stored"):
            attempt(Noise())


def test_poisson_samples_by_one_coin_a_row() -> None:
    noise, rate, steps, n = Noise(), 0.1, 2_000, 50
    taken = np.zeros((steps, n), bool)
    for step in range(steps):
        taken[step, noise.poisson(n, rate)] = True
    counts = taken.sum(axis=0)
    assert np.abs(counts - steps * rate).max() < 6 * np.sqrt(steps * rate * (1 - rate))
    sizes = taken.sum(axis=1)
    assert sizes.var() == pytest.approx(n * rate * (1 - rate), rel=0.2)
    assert len(noise.poisson(5, 1e-12)) == 0


def test_the_exponential_mechanism_has_its_odds() -> None:
    # scores 0 and 2, epsilon 1, sensitivity 1: odds e
    noise, n = Noise(), 20_000
    picked = np.mean([noise.choose(np.array([0.0, 2.0]), 1.0, 1.0) for _ in range(n)])
    assert picked == pytest.approx(np.e / (1 + np.e), abs=0.02)
