import json
import math
from pathlib import Path

import pytest

from synthgen.dp.accountant import Mechanism, calibrate, epsilon, power

KNOWN = Path(__file__).parents[1] / "known" / "opacus.json"


def steps(noise: float, rate: float = 0.02, count: int = 500) -> Mechanism:
    return Mechanism("steps", "sampled-gaussian", noise, count, rate)


@pytest.mark.parametrize("known", json.loads(KNOWN.read_text())["values"])
def test_the_golden_values_of_opacus(known: dict[str, float]) -> None:
    got = epsilon([steps(known["noise"], known["rate"], int(known["steps"]))], known["delta"])
    assert got == pytest.approx(known["prv"], rel=0.005)
    assert got <= known["rdp"]


def test_epsilon_falls_with_noise_and_grows_with_rate_and_count() -> None:
    base = epsilon([steps(1.0)], 1e-6)
    assert epsilon([steps(1.5)], 1e-6) < base
    assert epsilon([steps(1.0, rate=0.04)], 1e-6) > base
    assert epsilon([steps(1.0, count=1000)], 1e-6) > base


def test_the_exponential_mechanism_costs_its_epsilon() -> None:
    once = Mechanism("edge", "exponential", 4.0, 1)
    assert epsilon([once], 0.0) == pytest.approx(0.25, abs=1e-3)
    assert epsilon([Mechanism("edge", "exponential", 4.0, 3)], 0.0) <= 0.75 + 1e-3


def test_counts_cost_what_the_gaussian_mechanism_costs() -> None:
    # 4 counts with noise 40 are one with noise 20: epsilon .2172 at delta 1e-6 (Balle & Wang 2018)
    four = epsilon([Mechanism("counts", "discrete-gaussian", 40.0, 4)], 1e-6)
    one = epsilon([Mechanism("counts", "discrete-gaussian", 20.0, 1)], 1e-6)
    assert four == pytest.approx(one, rel=0.01)


def test_calibration_meets_the_target_from_below() -> None:
    def mechanisms(scale: float) -> list[Mechanism]:
        return [steps(scale, count=50), Mechanism("counts", "discrete-gaussian", 20 * scale, 3)]

    scale = calibrate(mechanisms, epsilon_at_most=1.0, delta=1e-6)
    assert epsilon(mechanisms(scale), 1e-6) <= 1.0
    assert epsilon(mechanisms(scale / 1.01), 1e-6) > 1.0


@pytest.mark.parametrize("change", [{"noise": 0.0}, {"count": 0}, {"rate": 0.0}, {"rate": 1.5}])
def test_impossible_mechanisms_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Mechanism(**{"what": "", "kind": "sampled-gaussian", "noise": 1.0, "count": 1} | change)  # type: ignore[arg-type]


def test_no_attack_on_pure_privacy_beats_its_epsilon() -> None:
    # epsilon ln 3: at most 3 * .1 true positives, and at most 1 - (1 - .9) / 3 (Kairouz et al.)
    found = power([Mechanism("edge", "exponential", 1 / math.log(3), 1)], [0.0, 0.1, 0.9, 1.0])
    assert found == pytest.approx([0, 0.3, 1 - 0.1 / 3, 1], abs=2e-3)
