"""What was planted in the demo table is found again in its synthetic copy."""

import pandas as pd
import pytest

from synthgen import demo
from synthgen.config import RunConfig
from synthgen.synthesizer import Synthesizer

ROWS = 10_000


@pytest.fixture(scope="module")
def synthetic() -> pd.DataFrame:
    """The demo table of the default size after the default training."""
    real = demo.demo_frame(ROWS, seed=0)
    fitted = Synthesizer.fit(real, config=RunConfig(), seed=0, device="cpu")
    return fitted.sample(ROWS, seed=0).data


@pytest.mark.slow
@pytest.mark.parametrize("fact", demo.FACTS)
def test_a_planted_fact_survives(fact: str, synthetic: pd.DataFrame) -> None:
    assert demo.FACTS[fact](synthetic)
