"""Measures on tables small enough to count by hand."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, ks_2samp

from synthgen.checks import distances
from synthgen.checks.check import Evidence
from synthgen.checks.contrast import wilson
from synthgen.checks.detection import auc
from synthgen.checks.distances import gower, nearest, nearest_both, nearest_others, positions
from synthgen.checks.marginals import ks, marginals, tvd
from synthgen.checks.pairs import cramers_v, pairs
from synthgen.checks.privacy import (
    Hits,
    _isolated,
    copies,
    near_copies,
    reused,
    row_ids,
)
from synthgen.checks.utility import utility
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="four",
    columns=(
        Column(name="id", kind="id"),
        Column(name="x", kind="numeric", decimals=1, nullable=True),
        Column(name="c", kind="categorical"),
    ),
)


def frame(x: list[float], c: str) -> pd.DataFrame:
    names = pd.Series([f"r{i}" for i in range(len(x))], dtype="str")
    return pd.DataFrame({"id": names, "x": x, "c": pd.Series(list(c), dtype="str")})


def four(synthetic: pd.DataFrame) -> Evidence:
    train = frame([1.0, 2.0, 3.0, 4.0], "aabb")
    return Evidence(SCHEMA, train, frame([1.0, 2.0, 3.0, 9.0], "aaab"), synthetic)


samples = arrays(float, st.integers(2, 40), elements=st.integers(-5, 5).map(float))


@given(samples, samples)
def test_ks_is_scipys(a, b):
    assert ks(a, b).value == pytest.approx(ks_2samp(a, b, method="asymp").statistic, abs=1e-12)


def test_ks_of_four_rows():
    # at 2 all of a lies below or on it, and half of b
    gap = ks(np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert (gap.value, gap.p, gap.q) == (0.5, 1.0, 0.5)


def test_an_empty_sample_is_as_far_as_can_be():
    assert ks(np.empty(0), np.ones(3)).value == 1
    assert ks(np.empty(0), np.empty(0)).value == 0


def test_tvd_of_four_rows():
    # shares .75 / .25 / 0 against .5 / .25 / .25
    gap = tvd(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]))
    assert (gap.value, gap.p, gap.q) == (0.25, 0.75, 0.5)


def test_marginals_of_four_rows():
    found = {m.name: m for m in marginals(four(frame([1.0, 2.0, 3.0, 4.0], "aaaa")))}
    assert found["ks.x"].value == 0
    assert found["ks.x"].control == 0.25
    assert found["tvd.c"].value == 0.5
    assert found["tvd.c"].control == 0.25
    assert "ks.id" not in found
    assert found["marginals"].value == 0.25
    assert found["marginals"].details["worst"] == "tvd.c"
    # the interval is the normal one at the set where the gap is: P = 1 of 4, Q = .5 of 4
    assert found["tvd.c"].high == pytest.approx(0.5 + 1.959964 * math.sqrt(0.25 / 4))


def test_a_missing_rate_is_a_measure_of_its_own():
    found = {m.name: m for m in marginals(four(frame([1.0, math.nan, math.nan, 4.0], "aabb")))}
    assert found["missing.x"].value == 0.5
    assert found["missing.x"].control == 0


def test_pair_distance_of_four_rows():
    # two bins of x, cut at 2.5; train's table is a/low 2, b/high 2; synthetic a/low 1, a/high 1,
    # b/low 1, b/high 1: half of the rows are elsewhere
    found = {m.name: m for m in pairs(four(frame([1.0, 3.0, 1.0, 3.0], "aabb")))}
    assert found["pair_tv"].value == 0.5
    assert found["pair_tv"].control == 0.25  # holdout: the row 3.0 with a
    pair = found["pair_tv"].details["pairs"][0]
    assert pair["columns"] == ["x", "c"]
    assert found["pair_loss"].n == 4


def test_dependence_of_equal_and_of_crossed_columns():
    assert cramers_v(np.array([[500, 0], [0, 500]])) == pytest.approx(1, abs=1e-3)
    assert cramers_v(np.array([[250, 250], [250, 250]])) == 0


def test_auc_by_hand():
    # the pairs (.9, .5), (.9, .1), (.5, .5), (.5, .1): 3 won and a tie
    positive = np.array([True, True, False, False])
    assert auc(positive, np.array([0.9, 0.5, 0.5, 0.1])) == 3.5 / 4
    assert math.isnan(auc(np.ones(2, bool), np.zeros(2)))


def test_copies_of_four_rows():
    # train rows (1, a) and (2, a) are met, 2.04 being 2.0 at one decimal; holdout shares both
    evidence = four(frame([1.0, 2.04, 7.0, 8.0], "aaab"))
    everyone, alone, _, _ = copies(evidence)
    assert (everyone.name, everyone.value, everyone.control) == ("exact_copies", 0.5, 0.5)
    assert everyone.details["synthetic_equal_train"] == 0.5
    # rows that occur once: (3, b), (4, b) in train and (3, a), (9, b) in the holdout
    assert (alone.name, alone.n, alone.value) == ("unique_copies", 2, 0)


def test_missing_equals_missing_and_nothing_else():
    train = frame([math.nan, 1.0], "aa")
    train_ids, _, ids = row_ids(Evidence(SCHEMA, train, train, frame([math.nan, 0.0], "aa")))
    assert train_ids[0] == ids[0]
    assert train_ids[1] != ids[1]


def test_copy_test_is_fishers_and_the_conditional_binomial_when_hits_are_rare():
    assert Hits(1, 2, 0, 2).p == pytest.approx(0.5)
    # By hand: of the two ways to choose the one that was met, train's weighs twice the holdout's.
    assert Hits(1, 2, 0, 2).p_beyond(2) == pytest.approx(4 / 6)
    rare = Hits(12, 80_000, 1, 20_000).p
    assert rare == pytest.approx(binomtest(12, 13, 0.8, alternative="greater").pvalue, rel=0.01)


def test_power_is_said():
    # with four fifths of the rows in train, .8 ** 31 is the first power below .001
    assert Hits(0, 80_000, 0, 20_000).smallest_seen(1e-3) == 31


def test_wilson_by_hand():
    assert wilson(0, 10)[1] == pytest.approx(1.959964**2 / (10 + 1.959964**2))


def test_gower_distance_of_four_rows():
    # ranks of train's x: 1/8, 3/8, 5/8, 7/8; the new row 2.5 lies at 1/2 and is an 'a'
    evidence = four(frame([2.5], "a"))
    train, synthetic = positions([evidence.train, evidence.synthetic], SCHEMA.modelled)
    found = nearest(synthetic, train)
    assert found.distance[0] == pytest.approx((1 / 8 + 0) / 2)
    assert found.index[0] == 1
    assert found.second[0] == pytest.approx((3 / 8 + 0) / 2)  # 1.0, an 'a'; 3.0 is a 'b'
    assert nearest_others(train).distance.tolist() == pytest.approx([1 / 8] * 4)


def test_the_holdout_shapes_the_space_as_train_does():
    # different real values 1, 2, 3, 4, 9: the holdout's 9 has a rank of its own, 9/10
    evidence = four(frame([9.0, 5.0], "bb"))
    tables = [evidence.train, evidence.holdout, evidence.synthetic]
    train, holdout, synthetic = positions(tables, SCHEMA.modelled)
    assert train.numbers[0].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert holdout.numbers[0, 3] == pytest.approx(0.9)
    assert synthetic.numbers[0].tolist() == pytest.approx([0.9, 0.8])


def test_nearest_rows_are_those_of_all_distances():
    """Missing numbers, 260 columns of levels (more than a byte counts), several blocks."""
    rng = np.random.default_rng(0)
    columns = [Column(name="x", kind="numeric", nullable=True)]
    columns += [Column(name=f"c{i}", kind="categorical") for i in range(260)]
    names = [c.name for c in columns]

    def table(n: int) -> pd.DataFrame:
        x = np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
        codes = rng.integers(0, 3, (n, 260)).astype(str)
        return pd.DataFrame({"x": x} | dict(zip(names[1:], codes.T, strict=True)))

    a, b = positions([table(17), table(4_200)], columns)
    gaps = np.abs(a.numbers[0][:, None] - b.numbers[0]).clip(max=1)
    each = (a.levels[:, :, None] != b.levels[:, None]).sum(axis=0) + gaps
    assert gower(a, b) == pytest.approx(each / 261, abs=1e-6)
    found, order = nearest(a, b), np.sort(each / 261, axis=1)
    assert found.distance == pytest.approx(order[:, 0], abs=1e-6)
    assert found.second == pytest.approx(order[:, 1], abs=1e-6)
    of_halves = nearest(a, b[:2_000]).among(nearest(a, b[2_000:]), 2_000)
    both = nearest_both(a, b)
    for once, twice in ((both[0], found), (both[1], nearest(b, a)), (of_halves, found)):
        for field in ("distance", "index", "second"):
            assert np.array_equal(getattr(once, field), getattr(twice, field))
    far = gower(*positions([pd.DataFrame({n: ["a"] for n in names[1:]}),
                            pd.DataFrame({n: ["b"] for n in names[1:]})], columns[1:]))  # fmt: skip
    assert far == 1


def test_nearest_other_rows_are_those_of_all_distances(monkeypatch):
    """Many ties, the first of which counts; several blocks, cut anywhere."""
    monkeypatch.setattr(distances, "BLOCK_ROWS", 7)
    monkeypatch.setattr(distances, "BLOCK_COLUMNS", 30)
    rng = np.random.default_rng(0)
    codes, x = rng.integers(0, 3, (100, 2)).astype(str).T, rng.integers(0, 4, 100) / 1.0
    table = pd.DataFrame({"x": x, "a": codes[0], "b": codes[1]})
    columns = [Column(name="x", kind="numeric")]
    columns += [Column(name=c, kind="categorical") for c in "ab"]
    places, _ = positions([table, table.head(0)], columns)
    each = gower(places, places)
    np.fill_diagonal(each, np.inf)
    found, order = nearest_others(places), np.sort(each, axis=1)
    assert np.array_equal(found.distance, order[:, 0])
    assert np.array_equal(found.second, order[:, 1])
    assert np.array_equal(found.index, each.argmin(axis=1))


def test_lonely_rows_are_met_nearly_and_exactly():
    # of so few rows all are taken. Half of the way: two of train (0 <= 2, 2 <= 2) and one of the
    # holdout (2 <= 2); equal: one of train
    alone = np.array([1, 1, 4, 4], "float32")
    near, held = (np.array(d, "float32") for d in ([1, 1, 0, 2], [1, 1, 2, 3]))
    nearly, exactly = _isolated(near, held, alone, alone)
    assert (nearly.name, nearly.value, nearly.control) == ("isolated_near_copies", 0.5, 0.25)
    assert (exactly.name, exactly.value, exactly.control) == ("isolated_copies", 0.25, 0.0)
    assert exactly.details["p"] == pytest.approx(0.5)


def test_real_ids_that_are_written_again_are_counted():
    # ids 0 to 3 in train and in the holdout; the ids written are train's 0, 1, 2 and nobody's
    evidence = four(frame([1.0, 2.0, 3.0, 4.0], "abab"))
    held = evidence.holdout.assign(id=["h0", "h1", "h2", None])
    written = evidence.synthetic.assign(id=[*evidence.train["id"][:3], "new"])
    (found,) = reused(replace(evidence, holdout=held, synthetic=written))
    assert found.name == "reused.id"
    assert (found.value, found.control) == (0.75, 0.0)
    assert found.details["p"] == pytest.approx(4 / 35)  # C(4, 3) of C(7, 3)
    assert found.note == "3 values of train and 0 of the holdout are written"


def test_nndr_of_four_rows():
    # x alone, eight real values at 1/16, 3/16, ...: 1 and 2 lie on rows of train, 4.5 lies half way
    # between a row of train and one of the holdout and clings to neither
    x = TableSchema(name="x", columns=(SCHEMA.columns[1],))
    tables = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 9.0], [1.0, 2.0, 4.5])
    evidence = Evidence(x, *(pd.DataFrame({"x": values}) for values in tables))
    found = {m.name: m for m in near_copies(evidence)}["nndr"]
    assert (found.value, found.control) == (0.5, 0.0)
    # both rows that are met are train's, C(4, 2) of C(8, 2), by either of two limits
    assert found.details["p"] == pytest.approx(2 * 6 / 28)


def test_utility_needs_a_target_with_two_classes():
    assert utility(four(frame([1.0], "a"))) == []
    evidence = four(frame([1.0, 2.0, 3.0, 4.0], "aabb"))
    one_class = Evidence(
        SCHEMA.with_target("c"), frame([1.0, 2.0], "aa"), evidence.holdout, evidence.synthetic
    )
    assert {m.status for m in utility(one_class)} == {"inconclusive"}
