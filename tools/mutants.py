"""Break the library formula by formula, and see that its tests notice each time.

Two kinds of mutants: hand-written ones (mutants.txt: a piece of text and what it becomes) and those drawn from the
syntax tree (syntax_mutants.py). Each is made in a copy of the library, where the tests of its module alone run up to
the first failure; the unmutated copy has to pass first. A drawn mutant that no test can see stands in
tests/equivalent.toml with the reason why no result changes.

`python tools/mutants.py` runs them all and writes tests/mutants.md; with names of modules it runs theirs and renews
their rows. `draw` lists what is drawn, `twins` the hand-written mutants that a syntax mutant repeats. Exit code 1 if a
mutant survives or the list of equivalents is wrong.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import syntax_mutants
from mutant_runs import LATE, LIBRARY, ROOT, Job, run_all, warm_up
from syntax_mutants import Site

MUTANTS = ROOT / "tools" / "mutants.txt"
EQUIVALENT = ROOT / "tests" / "equivalent.toml"
TABLE = ROOT / "tests" / "mutants.md"
MOST_EQUIVALENT = 0.08  # of the draw
NOT_RUN = "(not run)"


class Mutant(NamedTuple):
    """One mistake written by hand: in this module, `old`, which occurs exactly once, becomes `new`."""

    module: str
    old: str
    new: str
    mistake: str


# ---- which mutants there are


def source_of(module: str) -> str:
    """Return the text of a module of the library; ValueError if there is none of that name."""
    path = LIBRARY / f"{module}.py"
    if not path.is_file():
        raise ValueError(f"{module}: expected a module of the library, found no {path.relative_to(ROOT)}")
    return path.read_text(encoding="utf-8")


def read_mutants(text: str) -> list[Mutant]:
    """Return the records of mutants.txt: `[module] mistake`, the lines of `old` (-), those of `new` (+, or none)."""
    mutants = []
    for record in text.split("\n\n"):
        lines = [line for line in record.strip("\n").split("\n") if not line.startswith("#")]
        if not any(lines):
            continue
        module, mistake = lines[0].removeprefix("[").split("] ", 1)
        if any(line[:2] not in ("- ", "+ ") for line in lines[1:]):
            raise ValueError(f"mutants.txt: expected [module], then lines that begin with - or +, got {record!r}")
        old, new = ("\n".join(line[2:] for line in lines[1:] if line[0] == sign) for sign in "-+")
        mutants.append(Mutant(module, old, new, mistake))
    return mutants


def hand_mutants() -> list[Mutant]:
    """Return the hand-written mutants of mutants.txt."""
    return read_mutants(MUTANTS.read_text(encoding="utf-8"))


def mutated(mutant: Mutant, text: str) -> str:
    """Return the module's text with the mistake in it; ValueError unless `old` occurs exactly once."""
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.module}: expected {mutant.old!r} exactly once, found {text.count(mutant.old)} times")
    return text.replace(mutant.old, mutant.new)


def drawn_sites() -> list[Site]:
    """Return the syntax mutants that are drawn, of all modules with formulas."""
    modules = syntax_mutants.modules(LIBRARY)
    return [site for module in modules for site in syntax_mutants.all_sites(module, source_of(module)) if site.drawn]


def twins(mutants: list[Mutant]) -> list[tuple[Mutant, Site]]:
    """Return the hand-written mutants whose syntax tree a generated one has too, drawn or not."""
    found, trees = [], {}
    for module in {mutant.module for mutant in mutants} & set(syntax_mutants.modules(LIBRARY)):
        trees[module] = {site.tree: site for site in syntax_mutants.all_sites(module, source_of(module))}
    for mutant in mutants:
        text = source_of(mutant.module)
        site = trees.get(mutant.module, {}).get(syntax_mutants.same_tree(text, mutated(mutant, text)))
        found += [(mutant, site)] if site else []
    return found


def read_equivalents() -> dict[str, str]:
    """Return tests/equivalent.toml: the key of a site, and why no result changes."""
    return tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))


def problems_of_equivalents(equivalents: dict[str, str], sites: list[Site]) -> list[str]:
    """Return what is wrong with the list: a key that is not drawn, no reason, more than 8 % of the draw."""
    keys = {site.key for site in sites}
    found = [f"not drawn, so to be deleted from equivalent.toml: {key}" for key in equivalents if key not in keys]
    found += [f"no reason in equivalent.toml: {key}" for key, reason in equivalents.items() if len(reason) < 20]
    if len(equivalents) > MOST_EQUIVALENT * len(sites):
        found.append(f"{len(equivalents)} equivalents are more than {MOST_EQUIVALENT:.0%} of {len(sites)} mutants")
    return found


# ---- the stored table: the text of each row but for its last cell is known without a run


def cell(text: str) -> str:
    """Return a text as it can stand in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def hand_row(mutant: Mutant) -> str:
    """Return the row of a hand-written mutant without its last cell, the test that killed it."""
    new = f"`{cell(mutant.new.strip())}`" if mutant.new.strip() else "(nothing)"
    return f"| {mutant.module} | `{cell(mutant.old.strip())}` | {new} | {mutant.mistake}"


def syntax_row(module: str, sites: list[Site], equivalents: dict[str, str]) -> str:
    """Return the row of a module's draw without its last cell, how many were killed by their limit of time."""
    keys = [site.key for site in sites if site.module == module]
    equivalent = len(equivalents.keys() & set(keys))
    draw = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:8]
    return f"| {module} | {draw} | {len(keys)} | {len(keys) - equivalent} | {equivalent}"


def operator_rows(sites: list[Site], equivalents: dict[str, str]) -> list[str]:
    """Return one row an operator: how many are drawn, how many of them killed."""
    names = {site.key: site.operator.split(":")[0] for site in sites}
    drawn, killed = Counter(names.values()), Counter(name for key, name in names.items() if key not in equivalents)
    return [f"| {name} | {number} | {killed[name]} |" for name, number in drawn.most_common()]


def table(mutants: list[Mutant], sites: list[Site], equivalents: dict[str, str], last: dict[str, str]) -> str:
    """Return the table that is stored; `last` gives the last cell of each row that needs a run."""
    modules = sorted({site.module for site in sites})
    by_hand = [hand_row(mutant) for mutant in mutants]
    drawn = [syntax_row(module, sites, equivalents) for module in modules]
    lines = [
        "# Mutants: formulas broken one at a time",
        "",
        "Written by `make mutants` (tools/mutants.py). A mutant is a copy of the library with one mistake in it; it is",
        "killed when a test of its own module fails, or runs past three times its usual time.",
        "",
        f"## {len(sites)} drawn from the syntax tree, {len(sites) - len(equivalents)} killed",
        "",
        "| module | draw | mutants | killed | equivalent | killed by time |",
        "|---|---|---|---|---|---|",
        *(f"{row} | {last.get(row, NOT_RUN)} |" for row in drawn),
        "",
        "| operator | mutants | killed |",
        "|---|---|---|",
        *operator_rows(sites, equivalents),
        "",
        "Equivalent, because no result changes:",
        "",
        *(f"* `{key}`: {reason}" for key, reason in equivalents.items()),
        "",
        f"## {len(mutants)} written by hand, and the test that noticed",
        "",
        "| module | was | became | mistake | killed by |",
        "|---|---|---|---|---|",
        *(f"{row} | {last.get(row, NOT_RUN)} |" for row in by_hand),
    ]
    return "\n".join(lines) + "\n"


def last_cells(text: str) -> dict[str, str]:
    """Return the last cell of each row of a stored table, by the rest of the row."""
    rows = [line[:-2].rpartition(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row: end for row, _, end in rows}


# ---- the command


def run_mutants(mutants: list[Mutant], sites: list[Site], folder: Path) -> tuple[list[dict], list[dict]] | None:
    """Run the unmutated modules, then all mutants; return the results of both kinds, or None if one is not sound."""
    modules = sorted({mutant.module for mutant in mutants} | {site.module for site in sites})
    plain = run_all([Job(module, None, f"{module}: unmutated") for module in modules], folder / "sound", {})
    sound = dict(zip(modules, plain, strict=True))
    if broken := [module for module in modules if sound[module]["code"]]:
        print(f"the unmutated library does not pass: {', '.join(broken)}")
        return None
    jobs = [Job(s.module, syntax_mutants.mutated(s, source_of(s.module)), s.key) for s in sites]
    jobs += [Job(m.module, mutated(m, source_of(m.module)), f"{m.module}: {m.mistake}") for m in mutants]
    start = time.monotonic()
    drawn = run_all(jobs[: len(sites)], folder / "drawn", sound)
    middle = time.monotonic()
    by_hand = run_all(jobs[len(sites) :], folder / "hand", sound)
    after = time.monotonic() - middle
    print(f"{len(sites)} drawn mutants took {middle - start:.0f} s, {len(mutants)} by hand {after:.0f} s")
    return drawn, by_hand


def judge(site: Site, result: dict, equivalents: dict[str, str]) -> str | None:
    """Return what is wrong with the result of a drawn mutant; None if it was killed, or lives and may."""
    if result["code"] == 0 and site.key not in equivalents:
        return f"SURVIVED: {json.dumps(site.key)}"
    if result["code"] and site.key in equivalents:
        return f"killed by {result['killer']}, so not equivalent: {json.dumps(site.key)}"
    return None


def run_and_store(names: list[str], only: str, most: int | None) -> int:
    """Run the mutants of some modules, or of all; print what is wrong, store their rows, return the exit code."""
    start, all_mutants, all_sites, equivalents = time.monotonic(), hand_mutants(), drawn_sites(), read_equivalents()
    mutants = [m for m in all_mutants if (not names or m.module in names) and only != "drawn"][:most]
    sites = [s for s in all_sites if (not names or s.module in names) and only != "hand"][:most]
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        results = run_mutants(mutants, sites, Path(folder))
    if results is None:
        return 1
    drawn, by_hand = (list(zip(*pair, strict=True)) for pair in zip((sites, mutants), results, strict=True))
    wrong = problems_of_equivalents(equivalents, all_sites)
    wrong += filter(None, (judge(site, result, equivalents) for site, result in drawn))
    wrong += [f"SURVIVED: {m.module}: {m.old!r} -> {m.new!r} ({m.mistake})" for m, r in by_hand if r["code"] == 0]
    print("\n".join(wrong))
    print(f"{len(sites)} + {len(mutants)} mutants, {len(wrong)} problems, {time.monotonic() - start:.0f} s")
    if not (wrong or only or most):
        late = Counter(site.module for site, result in drawn if result["killer"] == LATE)
        last = last_cells(TABLE.read_text(encoding="utf-8"))
        last |= {syntax_row(module, all_sites, equivalents): str(late[module]) for module in {s.module for s in sites}}
        last |= {hand_row(mutant): cell(result["killer"]) for mutant, result in by_hand}
        TABLE.write_text(table(all_mutants, all_sites, equivalents, last), encoding="utf-8")
        print(f"stored in {TABLE.relative_to(ROOT)}")
    return int(bool(wrong))


def main() -> int:
    """Read the command line, do what it says, return the exit code."""
    parser = argparse.ArgumentParser(description="Break the library formula by formula; the tests must notice.")
    parser.add_argument("names", nargs="*", help="modules to break (all if none); or `draw`, or `twins`")
    parser.add_argument("--only", choices=("drawn", "hand"), default="", help="one kind; writes no table")
    parser.add_argument("--most", type=int, help="at most so many of each kind; writes no table")
    arguments = parser.parse_args()
    if arguments.names == ["draw"]:
        print("\n".join(site.key for site in drawn_sites()))
    elif arguments.names == ["twins"]:
        pairs = twins(hand_mutants())
        print("\n".join(f"[{mutant.module}] {mutant.mistake}\n    is {site.key}" for mutant, site in pairs))
        print(f"{len(pairs)} twins")
    else:
        known = {*syntax_mutants.modules(LIBRARY), *(mutant.module for mutant in hand_mutants())}
        if unknown := set(arguments.names) - known:
            parser.error(f"no such module: {', '.join(sorted(unknown))}; expected some of {', '.join(sorted(known))}")
        return run_and_store(arguments.names, arguments.only, arguments.most)
    return 0


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TQDM_DISABLE="1")
    sys.exit(main())
