"""What the plots of quality against cost read."""

from __future__ import annotations

import pytest

from harness.reports.quality import PREFERENCE, quality
from tests.harness.results_made import MEASURES, as_results, cost_facts, make_run, with_measures


def test_each_measure_and_the_judge_s_rate_is_a_quality() -> None:
    found = quality(as_results(with_measures(make_run())))
    assert [name for name, *_ in found["measures"]] == [*(name for name, *_ in MEASURES), PREFERENCE]
    assert found["points"]["far"][PREFERENCE]["kd"] == pytest.approx([-0.456, -0.581, -0.331])
    assert found["points"]["near"]["forward_kl"]["kd"] == pytest.approx([0.40484, 0.384598, 0.425082])
    assert "teacher" not in found["points"]["near"]["nll"]
    assert [head for _, head, *_ in found["measures"]][:2] == ["forward KL († kd)", "reverse KL"]


def test_a_cost_that_is_not_known_is_no_point() -> None:
    costs = [cost_facts("kd"), cost_facts("dadpo", peak_memory=None), cost_facts("ddpo-beta0.15", device="a; b")]
    found = dict(quality(as_results(with_measures(make_run(), costs=costs)))["costs"])
    assert found["peak memory, MB"] == dict.fromkeys(("kd", "ddpo-beta0.15"), pytest.approx(1234.56789))
    assert found["seconds"] == {"kd": 184.75, "dadpo": 184.75}
