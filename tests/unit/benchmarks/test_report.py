"""The benchmark's arithmetic and its report, on timings made up here; nothing is timed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from benchmarks import intervals
from benchmarks.cold_start import Starts
from benchmarks.contest import Timings
from benchmarks.memory import Memory
from benchmarks.report import BEGIN, END, Report, as_json, markdown, replace_section, table
from shared.errors import FirstRayError


def _ours(scale: float = 1.0) -> Timings:
    reading = {"decode": 20.0 * scale, "gate": 1.0, "classifier": 2.0, "detector": 6.0, "total": 60.0 * scale}
    return Timings("FirstRay int8-litert", "firstray", [[reading, reading]] * 6, {"variant": "int8-litert", "boxes": 3})


def _report(**changes: Any) -> Report:
    machine = {
        "cpu": "Some CPU",
        "cores": 2,
        "memory_gb": 8.0,
        "system": "Linux x86_64",
        "python": "3.11.2",
        "packages": {"numpy": "2.4.0", "torch": None},
    }
    torch = Timings("torch eager", "torch", [[{"classifier": 40.0, "detector": 40.0, "total": 420.0}] * 2] * 6)
    ancestor = Timings("ancestor", "ancestor", problem="not installed: tensorflow")
    starts = [Starts("firstray diagnose", [[0.9], [1.1], [1.0]]), Starts("torch", [[6.0], [6.0], [6.0]])]
    memory = Memory(main_hwm=200.0, main_rusage=210.0, decoder_hwm=None, decoder_rusage=90.0)
    report = Report(machine, 0.01, "RG1", "first", 2, [_ours(), torch, ancestor], starts, memory)
    return dataclasses.replace(report, **changes)


def _verdicts(report: Report) -> dict[str, str]:
    return {judged.limit.key: judged.verdict for judged in report.judged()}


def test_quantiles_pool_all_rounds() -> None:
    rounds = [[4.0, 1.0], [3.0, 2.0], [5.0]]
    assert intervals.quantile(rounds, 0.5) == 3.0
    assert intervals.quantile(rounds, 0.95) == pytest.approx(4.8)


def test_interval_is_a_point_without_noise_and_wide_between_unlike_rounds() -> None:
    steady = intervals.median([[7.0, 7.0]] * 10)
    assert (steady.low, steady.value, steady.high) == (7.0, 7.0, 7.0)
    moody = intervals.median([[1.0] * 5, [9.0] * 5] * 5)
    assert (moody.low, moody.high) == (1.0, 9.0)


def test_ratio_pairs_rounds_so_that_common_noise_cancels() -> None:
    fast = [[10.0], [20.0], [40.0], [30.0]]
    slow = [[5 * value for value in turn] for turn in fast]
    ratio = intervals.ratio(slow, fast)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((5.0, 5.0, 5.0))
    with pytest.raises(ValueError, match="paired"):
        intervals.ratio(slow, fast[:2])


def test_limits_are_judged_by_what_was_measured() -> None:
    report = _report()
    measured = {judged.limit.key: judged.measured for judged in report.judged()}
    assert measured == {
        "reading_ms": 60.0,
        "models_ms": 8.0,
        "cold_start_s": 1.0,
        "memory_mb": 300.0,
        "against_torch": 10.0,
    }
    assert set(_verdicts(report).values()) == {"pass"}
    assert report.passed


def test_a_slow_reading_fails_its_limit_and_slow_models_fail_theirs() -> None:
    report = _report(warm=[_ours(scale=3.0), *_report().warm[1:]])
    verdicts = _verdicts(report)
    assert (verdicts["reading_ms"], verdicts["against_torch"], verdicts["models_ms"]) == ("fail", "pass", "pass")
    assert not report.passed
    slow = _ours()
    for reading in (reading for one_round in slow.rounds for reading in one_round):
        reading["detector"] = 30.0
    verdicts = _verdicts(_report(warm=[slow, *_report().warm[1:]]))
    assert (verdicts["reading_ms"], verdicts["against_torch"], verdicts["models_ms"]) == ("pass", "fail", "fail")


def test_an_absent_peer_is_a_row_that_says_so_and_fails_nothing() -> None:
    torch = Timings("torch eager", "torch", problem="not installed: torch")
    starts = [_report().starts[0], Starts("torch", problem="not installed: torch")]
    report = _report(warm=[_ours(), torch], starts=starts)
    assert _verdicts(report)["against_torch"] == "not measured"
    assert report.passed
    assert markdown(report).count("not installed: torch") == 3


def test_a_measurement_that_broke_fails_and_is_shown() -> None:
    broken = Timings("FirstRay int8-litert", "firstray", problem="failed: RuntimeError: no")
    report = _report(warm=[broken, *_report().warm[1:]], memory="failed: exit 1: no")
    verdicts = _verdicts(report)
    assert {verdicts[key] for key in ("reading_ms", "models_ms", "memory_mb", "against_torch")} == {"fail"}
    assert "failed: exit 1: no" in markdown(report)


def test_a_peer_that_broke_off_is_compared_by_the_rounds_it_has() -> None:
    torch = Timings("torch eager", "torch", [[{"classifier": 40.0, "detector": 40.0, "total": 600.0}]] * 2)
    assert _report(warm=[_ours(), torch]).judged()[-1].measured == pytest.approx(10.0)


def test_report_says_when_figures_are_not_to_be_relied_on() -> None:
    assert "do not rely" not in markdown(_report())
    assert "Other processes took 45% of the cores: do not rely" in markdown(_report(busy=0.45))
    refused = _ours()
    refused.facts["accepted"] = False
    assert "gate refuses the sample" in markdown(_report(warm=[refused, *_report().warm[1:]]))


def test_ways_are_compared_as_a_whole_and_by_their_models_alone() -> None:
    row = next(line for line in markdown(_report()).splitlines() if line.startswith("| torch eager"))
    assert [cell.strip() for cell in row.split("|")[4:6]] == ["7.00 [7.00, 7.00]", "10.0 [10.0, 10.0]"]


def test_json_holds_limits_and_every_timing() -> None:
    stored = json.loads(json.dumps(as_json(_report())))
    assert stored["passed"] is True
    assert [limit["verdict"] for limit in stored["limits"]] == ["pass"] * 5
    assert stored["warm"][0]["rounds"][5][1]["decode"] == 20.0


def test_table_is_markdown_with_aligned_columns() -> None:
    lines = table(["way", "ms"], [["a|b", "1.00"], ["longer", "12"]]).splitlines()
    assert lines == [
        "| way    |   ms |",
        "| ------ | ---: |",
        "| a\\|b   | 1.00 |",
        "| longer |   12 |",
    ]


def test_readme_section_is_replaced_and_the_rest_kept() -> None:
    readme = f"# FirstRay\n\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_section(readme, "new\n")
    assert once == f"# FirstRay\n\n{BEGIN}\nnew\n{END}\nafter\n"
    assert replace_section(once, "new") == once


@pytest.mark.parametrize("readme", ["nothing", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_readme_without_its_markers_is_refused(readme: str) -> None:
    with pytest.raises(FirstRayError) as caught:
        replace_section(readme, "new")
    assert caught.value.code == "readme_markers_missing"
