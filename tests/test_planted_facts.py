"""What was planted in the demo table is found again in its synthetic copy."""

import pandas as pd
import pytest

from synthgen import demo
from synthgen.config import RunConfig
from synthgen.synthesizer import Synthesizer

ROWS = 10_000
#: Facts that the default training does not bring out yet; each is a promise to be kept.
NOT_YET = {"labs_follow_diagnosis", "labs_correlate"}


@pytest.fixture(scope="module")
def synthetic() -> pd.DataFrame:
    """The demo table of the default size after the default training."""
    real = demo.demo_frame(ROWS, seed=0)
    fitted = Synthesizer.fit(real, config=RunConfig(), seed=0, device="cpu")
    return fitted.sample(ROWS, seed=0).data


@pytest.mark.slow
@pytest.mark.parametrize("fact", demo.FACTS)
def test_a_planted_fact_survives(
    fact: str, synthetic: pd.DataFrame, request: pytest.FixtureRequest
) -> None:
    if fact in NOT_YET:
        request.applymarker(pytest.mark.xfail(strict=False, reason="not learnt well enough yet"))
    assert demo.FACTS[fact](synthetic)
