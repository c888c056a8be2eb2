"""Each mutation fits the product as it is."""

import shutil
from pathlib import Path

import pytest

from tests.torture.faults import FAULTS
from tests.torture.mutants import MUTATIONS, Mutation, NotThere, mutate
from tests.torture.mutations import BEGIN, END, ROOT, Verdict, written
from tests.torture.schedule import schedule


def copied(mutation: Mutation, folder: Path) -> Path:
    target = folder / mutation.file
    target.parent.mkdir(parents=True)
    shutil.copy(ROOT / mutation.file, target)
    return target


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_it_changes_one_place_and_what_comes_of_it_is_python(
    mutation: Mutation, tmp_path: Path
) -> None:
    target = copied(mutation, tmp_path)
    before = target.read_text()
    mutate(mutation, tmp_path)
    assert target.read_text() != before
    compile(target.read_text(), mutation.file, "exec")


def test_one_that_does_not_fit_is_told(tmp_path: Path) -> None:
    mutation = MUTATIONS[0]._replace(old="this is nowhere")
    copied(mutation, tmp_path)
    with pytest.raises(NotThere, match="0 times"):
        mutate(mutation, tmp_path)


def test_their_names_differ_and_their_faults_come_up() -> None:
    assert len({each.name for each in MUTATIONS}) == len(MUTATIONS) >= 15
    for each in MUTATIONS:
        names = each.faults.split(",")
        assert set(names) <= FAULTS.keys()
        assert {step.fault for step in schedule(each.seed, each.minutes, names)} == set(names)


def test_rows_are_replaced_by_name_and_stay_in_order() -> None:
    first, second = (Verdict(each, 4, 9.5, True, "") for each in MUTATIONS[:2])
    page = written(f"# A page\n{BEGIN}{END}\n\nThe end\n", {second.mutation.name: second.row()})
    page = written(page, {first.mutation.name: first.row()})
    missed = second._replace(number=None)
    page = written(page, {second.mutation.name: missed.row()})
    rows = page.partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    assert rows == [first.row(), missed.row()]
    assert "not caught" in rows[1]
    assert page.endswith("\n\nThe end\n")
