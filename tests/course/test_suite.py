"""tools/suite.py: its last lines count what ran, and nothing that failed, was skipped or did not run goes unsaid."""

import xml.etree.ElementTree as ET

import course
import pytest
import suite

UNITS = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="a"><properties>
  <property name="count: equations verified" value="3"/><property name="count: controls swept" value="2"/>
</properties></testcase>
<testcase classname="tests.test_a" name="b"><properties><property name="count: controls swept" value="5"/></properties>
</testcase>
<testcase classname="tests.test_a" name="c"><failure message="no"/></testcase>
<testcase classname="tests.test_a" name="d"><error message="no"/></testcase>
<testcase classname="tests.test_a" name="e"><skipped message="no data"/></testcase>
</testsuite></testsuites>"""
NBVAL = """<testsuites><testsuite>
<testcase classname="notebooks.09.ipynb" name="Cell 0" time="1.5"/>
<testcase classname="notebooks.09.ipynb" name="Cell 1"/>
<testcase classname="notebooks.10.ipynb" name="Cell 0" time="0.5"/>
</testsuite></testsuites>"""
SKIPPED = '<testsuites><testcase classname="t" name="x"><skipped message="no Chromium found"/></testcase></testsuites>'
RAN = '<testsuites><testcase classname="t" name="x"/><testcase classname="t" name="y"/></testsuites>'


def cases(text: str):
    return list(ET.fromstring(text).iter("testcase"))


def test_summary_counts_everything():
    found = {"tests": cases(UNITS), "nbval": cases(NBVAL), "browser": cases(RAN)}
    assert suite.summary(found, {"tests": 1, "nbval": 0, "browser": 0}) == [
        "notebooks compared: 2",
        "cells compared: 3",
        "controls swept: 7",
        "equations verified: 3",
        "worker-seconds: 2 (tests 0, nbval 2, browser 0)",
        "stage tests: 1 SKIPPED: no data",
        "stage tests ended with pytest's exit code 1",
        "7 passed, 2 failed, 1 skipped",
    ]


def test_a_missing_browser_is_said():
    found = {"tests": cases(UNITS), "nbval": cases(NBVAL), "browser": cases(SKIPPED)}
    assert "stage browser: 1 SKIPPED: no Chromium found" in suite.summary(found, {})
    found["browser"] = cases(SKIPPED.replace("skipped", "error")) + cases(RAN)  # as under CI=true
    assert suite.summary(found, {})[-1] == "7 passed, 3 failed, 1 skipped"


SHARED = """<testsuites>
<testcase classname="notebooks.09_forward_process.ipynb" name="Cell 0" time="40"/>
<testcase classname="tests.browser.test_lab" name="test_it[09_forward_process]" time="30"/>
<testcase classname="tests.lessons.test_lesson_forward_process" name="test_it" time="50.4"/>
<testcase classname="tests.lessons.test_lesson_ddpm" name="test_it" time="7"/>
<testcase classname="tests.course.test_notebooks" name="test_it[13_ddpm-2]" time="1"/>
<testcase classname="tests.test_samplers" name="test_it" time="99"/></testsuites>"""


def test_each_lessons_share_is_shown_and_marked_where_it_is_over():
    nine, thirteen = course.find("9"), course.find("13")
    found = {stage: [] for stage in suite.STAGES}
    for case in cases(SHARED):
        stage = {"notebooks": "nbval", "browser": "browser"}.get(case.get("classname").split(".")[-2], "tests")
        found["nbval" if case.get("classname").startswith("notebooks") else stage].append(case)
    assert suite.shares(found, [nine, thirteen])[1:] == [
        "  09: 120 (40, 30 over, 50 over) of 100  OVER",
        "  13: 8 (0, 0, 8) of 150",
    ]


def test_a_stage_without_tests_fails_and_is_said(monkeypatch, tmp_path, capsys):
    results = {"tests": (0, cases(UNITS)), "nbval": (5, []), "browser": (0, cases(RAN)), "deep": (0, cases(RAN))}
    monkeypatch.setattr(suite, "BUILD", tmp_path)
    monkeypatch.setattr(suite, "run_stage", lambda name, home: results[name])
    assert suite.main([]) == 1
    assert "stage nbval ended with pytest's exit code 5" in capsys.readouterr().out
    results["nbval"] = (0, cases(NBVAL))
    assert suite.main([]) == 0
    assert suite.main(["deep"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize(("body", "code", "outcome"), [("assert 1", 0, "passed"), ("assert not 1", 1, "failed")])
def test_a_stage_runs_pytest_offline_on_one_thread(body, code, outcome, monkeypatch, tmp_path):
    test = tmp_path / "test_one.py"
    seen = "assert os.environ['OMP_NUM_THREADS'] == '1' and 'sitecustomize' in sys.modules"
    test.write_text(f"import os, sys\ndef test_it():\n    {seen}\n    {body}\n")
    for name in ("OMP_NUM_THREADS", "PYTHONPATH"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(suite, "BUILD", tmp_path)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setitem(suite.STAGES, "one", [str(test)])
    found, ran = suite.run_stage("one", str(tmp_path))
    assert (found, [suite.outcome(case) for case in ran]) == (code, [outcome])


@pytest.mark.parametrize(("name", "said"), [("nbval", "skip"), ("tests", None)])
def test_explorers_draw_no_frames_where_only_texts_are_compared(name, said, monkeypatch, tmp_path):
    test = tmp_path / "test_one.py"
    test.write_text(f"import os\ndef test_it():\n    assert os.environ.get('DIFFUSION_LIB_FRAMES') == {said!r}\n")
    monkeypatch.setattr(suite, "BUILD", tmp_path)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setitem(suite.STAGES, name, [str(test)])
    assert suite.run_stage(name, str(tmp_path))[0] == 0
