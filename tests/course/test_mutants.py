"""The stored table of mutants belongs to the library and to the tests as they are now. (`make mutants` runs them.)"""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mutant_runs import Watch, file_of_tests
from mutants import (
    MUTANTS,
    NOT_RUN,
    ROOT,
    TABLE,
    Mutant,
    cell,
    drawn_sites,
    judge,
    last_cells,
    mutated,
    problems_of_equivalents,
    read_equivalents,
    read_mutants,
    source_of,
    table,
)

ALL = read_mutants(MUTANTS.read_text())


@pytest.fixture(scope="module")
def sites():
    """The drawn mutants."""
    return drawn_sites()


def test_every_module_is_broken_and_thirty_mistakes_are_written_by_hand(record_count, sites):
    modules = {mutant.module for mutant in ALL} | {site.module for site in sites}
    assert all(file_of_tests(module).is_file() for module in modules)
    assert len(ALL) >= 30 and len({mutant[:3] for mutant in ALL}) == len(ALL)
    record_count("mutants killed (stored table)", len(ALL) + len(sites) - len(read_equivalents()))


def test_every_mistake_still_fits_the_library():
    """An edit of a formula has to take its mutant along."""
    for mutant in ALL:
        compile(mutated(mutant, source_of(mutant.module)), mutant.module, "exec")


def test_the_stored_table_is_of_these_mutants_and_of_tests_that_exist(sites):
    stored, equivalents = TABLE.read_text(), read_equivalents()
    last = last_cells(stored)
    expected = table(ALL, sites, equivalents, last)
    lost = sorted({line.split(" | ")[0][2:] for line in expected.splitlines() if line.endswith(f"| {NOT_RUN} |")})
    assert not lost, f"run `python tools/mutants.py {' '.join(lost)}`"
    assert stored == expected, "run `make mutants`"
    killers = stored.split(" by hand, and the test that noticed")[1]
    for module, killer in re.findall(r"^\| (\S+) \| .* \| (\S+) \|$", killers, re.M):
        known = module == "module" or f"def {killer}(" in file_of_tests(module).read_text()
        assert known, f"run `python tools/mutants.py {module}`: there is no {killer}"


def test_the_equivalents_are_drawn_few_and_explained(sites):
    assert problems_of_equivalents(read_equivalents(), sites) == []


def test_a_wrong_list_of_equivalents_is_seen(sites):
    reason = "the measure is symmetric in its arguments"
    few, many = sites[:1], sites[: len(sites) // 8]
    assert problems_of_equivalents({few[0].key: reason}, sites) == []
    assert problems_of_equivalents({"schedules.gone: a -> b": reason}, sites)[0].startswith("not drawn")
    assert problems_of_equivalents({few[0].key: "I think so"}, sites)[0].startswith("no reason")
    assert "more than 8 %" in problems_of_equivalents({site.key: reason for site in many}, sites)[0].replace(
        "8%", "8 %"
    )


def test_a_drawn_mutant_is_killed_or_explained_and_not_both(sites):
    site, lived, killed = sites[0], {"code": 0, "killer": ""}, {"code": 1, "killer": "test_it"}
    assert judge(site, killed, {}) is None and judge(site, lived, {site.key: "why"}) is None
    assert judge(site, lived, {}).startswith("SURVIVED")
    assert "killed by test_it, so not equivalent" in judge(site, killed, {site.key: "why"})


def test_a_row_of_the_table_is_kept_until_its_mutants_change(sites):
    some = [site for site in sites if site.module == "metrics"]
    mutant = Mutant("metrics", "a | b", "", "nothing left")
    first = table([mutant], some, {}, {})
    assert first.count(NOT_RUN) == 2
    last = last_cells(first.replace(NOT_RUN, "test_it"))
    assert NOT_RUN not in table([mutant], some, {}, last)
    assert table([mutant], some[1:], {}, last).count(NOT_RUN) == 1
    assert table([mutant._replace(new="c")], some, {}, last).count(NOT_RUN) == 1


@pytest.mark.parametrize("text", ["a = c\n", "a = b  # a = b\n"])
def test_a_mistake_that_no_longer_fits_is_an_error(text):
    with pytest.raises(ValueError, match="exactly once"):
        mutated(Mutant("process", "a = b", "a = c", "b for c"), text)


def test_records_are_read():
    text = "# a comment\n\n[process] two lines\n- one\n-     two\n+ three\n\n[data] nothing left\n- four\n"
    assert read_mutants(text) == [
        Mutant("process", "one\n    two", "three", "two lines"),
        Mutant("data", "four", "", "nothing left"),
    ]
    with pytest.raises(ValueError, match="lines that begin with"):
        read_mutants("[data] no sign\none\n")
    with pytest.raises(ValueError, match="attic: expected a module of the library"):
        source_of("attic")
    assert cell("a | b\nc") == "a \\| b c"


def test_quick_tests_come_first_and_equally_quick_ones_keep_their_order():
    tests = [SimpleNamespace(nodeid=name) for name in ("slow", "b", "new", "a")]
    Watch({"slow": 9.0, "b": 0.01, "a": 0.02}).pytest_collection_modifyitems(tests)
    assert [test.nodeid for test in tests] == ["b", "new", "a", "slow"]


RUN = """
import json, sys
from pathlib import Path
from mutant_runs import Job, run_all
from mutants import source_of
source = source_of("arguments")
broken = source.replace("pairwise([T + 1, *times])", "pairwise([T + 2, *times])")
slow = source + "\\nimport time; time.sleep(60)\\n"
harmless, broken, slow = [Job("arguments", text, "") for text in (source + "\\n# harmless\\n", broken, slow)]
folder = Path(sys.argv[1])
[sound] = run_all([Job("arguments", None, "")], folder / "sound", {})
assert sound["code"] == 0 and sound["seconds"] and broken.source != source
results = run_all([harmless, broken], folder / "first", {"arguments": sound})
results += run_all([slow], folder / "second", {"arguments": {**sound, "wall": -3.0}})  # a limit of one second
print(json.dumps([(result["code"], result["killer"]) for result in results]))
"""


def test_a_harmless_change_survives_a_mistake_is_found_and_no_end_is_a_find(tmp_path):
    """In a process of its own, because the forks have to import the copy and not the library."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT / "tools", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    harmless, broken, slow = json.loads(done.stdout.splitlines()[-1])
    assert harmless == [0, ""]
    assert broken == [1, "test_what_is_wrong_is_named"]
    assert slow == [98, "(ran past its time limit)"]
