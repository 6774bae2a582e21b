"""The stored table of mutants belongs to the library and to the tests as they are now. (`make mutants` runs them.)"""

import json
import re
import subprocess
import sys

import pytest
from mutants import LIBRARY, MUTANTS, ROOMS, ROOT, TABLE, Mutant, cell, file_of_tests, mutated, read_mutants, table

ALL = read_mutants(MUTANTS.read_text())


def test_every_room_is_broken_and_thirty_times_in_all(record_count):
    assert {mutant.room for mutant in ALL} == set(ROOMS)
    assert len(ALL) >= 30 and len({mutant[:3] for mutant in ALL}) == len(ALL)
    record_count("mutants killed (stored table)", len(ALL))


def test_every_mistake_still_fits_the_library():
    """An edit of a formula has to take its mutant along."""
    for mutant in ALL:
        text = (LIBRARY / f"{mutant.room}.py").read_text()
        compile(mutated(mutant, text), mutant.room, "exec")


def test_the_stored_table_lists_these_mutants_and_tests_that_exist():
    stored = TABLE.read_text()
    rows = [line for line in stored.splitlines() if re.match(r"\| \d+ \|", line)]
    killers = [row.split("|")[-2].strip() for row in rows]
    assert len(killers) == len(ALL) and stored == table(ALL, killers), "run `make mutants`"
    for mutant, killer in zip(ALL, killers, strict=True):
        assert f"def {killer}(" in file_of_tests(mutant.room).read_text(), "run `make mutants`"


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
    with pytest.raises(ValueError, match="expected"):
        read_mutants("[attic] no such room\n- one\n")
    assert cell("a | b\nc") == "a \\| b c"


RUN = """
import json, sys
from pathlib import Path
from mutants import Mutant, run_all
harmless = Mutant("arguments", "Return `value` if it is a tensor;", "Give `value` back if it is a tensor;", "none")
broken = Mutant("arguments", "if times[0] > T or", "if times[0] > T + 1 or", "T + 1 for T")
results = run_all([("arguments", None), ("arguments", harmless), ("arguments", broken)], Path(sys.argv[1]))
print(json.dumps(results))
"""


def test_a_sound_copy_passes_a_harmless_change_survives_and_a_mistake_is_found(tmp_path):
    """In a process of its own, because the forks have to import the copy and not the library."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT / "tools", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [result["code"] for result in results] == [0, 0, 1]
    assert results[2]["killer"] == "test_what_is_wrong_is_named"
