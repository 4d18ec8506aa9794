"""Harmless results of common servers, and Python's own source: none is withheld, and hardly a value is masked."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from false_alarms import LIMIT, SIGNS_LIMIT, corpus, main, measure
from fidelity.rig import ALLOWING, Rig, at, entries, read
from soothsayer_mcp.testing.servers import Script, result, tool


@pytest.mark.pitfall("P-SECRET-08")
def test_detectors_and_signs_hardly_ever_fire_on_what_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    printed = capsys.readouterr().out
    assert len(corpus()) == 500
    assert [line.split(":")[0] for line in printed.splitlines()] == ["results"] * 8 + ["source"] * 8
    assert "results: masked in the trace" in printed
    assert "limit 0.1%" in printed


def test_a_figure_beyond_its_limit_is_a_failure_and_detectors_are_what_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = [one for one in measure() if one.what.startswith("source: ")]
    assert {one.what.removeprefix("source: ") for one in figures if one.found} == {
        "masked in the trace",
        "find secret",
        "instructions",
    }
    bad = replace(figures[0], found=1 + round(LIMIT * figures[0].values))
    worse = replace(figures[-1], touched=1 + round(SIGNS_LIMIT * figures[-1].texts))
    assert not bad.holds
    assert not worse.holds
    monkeypatch.setattr("false_alarms.measure", lambda: [figures[0], bad])
    assert main() == 1
    assert capsys.readouterr().out.count("BEYOND ITS LIMIT") == 1


@pytest.mark.pitfall("P-SECRET-08")
def test_no_harmless_result_is_withheld_or_changed(tmp_path: Path) -> None:
    results = [json.dumps(each, separators=(",", ":")) for each in corpus()]
    # The script fills in what stands behind a dollar sign, and there is none in the corpus.
    assert all("$" not in each for each in results)
    names = [f"get{number}" for number in range(len(results))]
    acts = {f"tool:{name}": [result(each)] for name, each in zip(names, results, strict=True)}
    policy = ALLOWING + "trace: {payloads: redacted}\n"
    with Rig(tmp_path, Script(tools=[tool(name) for name in names], on=acts), policy=policy) as rig:
        rig.host.initialize()
        asked = [rig.host.ask("tools/call", {"name": name, "arguments": {}}) for name in names[:60]]
        for number, name in enumerate(names):
            if number >= len(asked):
                asked.append(rig.host.ask("tools/call", {"name": name, "arguments": {}}))
            raw = rig.host.answer(asked[number])
            assert raw.endswith(b',"result":' + results[number].encode() + b"}")
            assert "isError" not in str(at(read(raw), "result"))
        outcomes = entries(rig.state, "step.outcome")
    assert [entry["outcome"] for entry in outcomes].count("succeeded") >= len(results)
    assert all("failure" not in entry for entry in outcomes)
