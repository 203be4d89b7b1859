"""Our attacks against anonymeter's on tables with a known share of copied rows.

anonymeter.json holds what anonymeter found; how it was made stands in planted.py and
run_anonymeter.py. Both estimate one risk, each with an interval; the difference of two independent
estimates is within the root of the summed squares of their half widths in 95 % of cases.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from planted import SHARES, demo_tables, planted

from synthgen import demo
from synthgen.checks import attacks
from synthgen.checks.check import Evidence, Measurement, run_checks
from synthgen.schema import TableSchema

FOUND = json.loads(Path(__file__).with_name("anonymeter.json").read_text())["demo"]
#: What both measure in the same way. anonymeter's claims about one column are also of ranges, and
#: those about four columns are made until they hold for exactly one synthetic row.
SAME = ("linkability", "attribute_inference")
CHECKS = {name: attacks.CHECKS[name] for name in (*SAME, "singling_out_1")}


@pytest.fixture(scope="module")
def ours() -> dict[float, dict[str, Measurement]]:
    train, holdout, fresh = demo_tables()
    secret = FOUND["secret"]
    columns = (replace(c, sensitive=c.name == secret) for c in demo.SCHEMA.columns)
    schema = TableSchema(name="demo", columns=tuple(columns))
    found = {}
    for share in SHARES:
        evidence = Evidence(schema, train, holdout, planted(train, fresh, share), seed=0)
        found[share] = {m.name: m for m in run_checks(evidence, CHECKS)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", SAME)
def test_both_find_the_same_risk(ours, share, name):
    mine, theirs = ours[share][name], FOUND["found"][str(share)][name]
    half_mine = (mine.high - mine.low) / 2
    half_theirs = (theirs["interval"][1] - theirs["interval"][0]) / 2
    assert abs(mine.value - theirs["risk"]) <= math.hypot(half_mine, half_theirs)


@pytest.mark.slow
def test_linkability_is_the_share_of_copied_rows(ours):
    for share in SHARES[1:]:
        mine, theirs = ours[share]["linkability"], FOUND["found"][str(share)]["linkability"]
        assert mine.low < share < mine.high
        assert theirs["interval"][0] < share < theirs["interval"][1]


@pytest.mark.slow
def test_both_rank_the_tables_alike_by_singling_out(ours):
    mine = [ours[share]["singling_out_1"].value for share in SHARES]
    theirs = [FOUND["found"][str(share)]["singling_out_1"]["risk"] for share in SHARES]
    assert mine == sorted(mine)
    assert theirs == sorted(theirs)
    assert ours[0.0]["singling_out_1"].details["p"] > 0.01
    assert ours[0.05]["singling_out_1"].details["p"] < 1e-4
