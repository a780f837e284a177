"""What `evaluate` reports of held-out photos: its rows become a table, and every figure names its network."""

from types import SimpleNamespace

import pytest

from my3dgen.cli import measuring
from my3dgen.evaluation import protocol
from my3dgen.evaluation.protocol import table
from my3dgen.personal import adapter

FIGURES = ("id_sim", "perceptual", "dists")


def row(person: str, photos: float, **whos: tuple[float, ...]) -> dict:
    """A person's row; each model's figures in the order of FIGURES, DISTS left out where there are two."""
    named = {who: dict(zip(FIGURES, values, strict=False)) for who, values in whos.items()}
    return {"person": person, "photos": photos} | named


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_every_figure_and_their_means():
    rows = [
        row("ann", 0.9, pretrained=(0.5, 1.0, 0.4), personalized=(0.8, 0.5, 0.2)),
        row("ben", 0.7, pretrained=(0.3, 2.0, 0.6), personalized=(0.6, 1.5, 0.4)),
    ]
    head, _, ann, _, mean = (cells(line) for line in table(rows).splitlines())
    assert dict(zip(head, ann, strict=True)) == {
        "person": "ann",
        "pretrained ID": "0.500",
        "personalized ID": "0.800",
        "photos ID": "0.900",
        "pretrained perceptual": "1.000",
        "personalized perceptual": "0.500",
        "pretrained dists": "0.400",
        "personalized dists": "0.200",
    }
    assert mean == ["mean", "0.400", "0.700", "0.800", "1.500", "1.000", "0.500", "0.300"]


def test_full_fine_tuning_is_a_column_and_dists_is_none_where_it_was_not_measured():
    rows = [row("ann", 0.9, pretrained=(0.5, 1.0), personalized=(0.8, 0.5), full=(0.7, 0.6))]
    head, _, ann, _ = (cells(line) for line in table(rows).splitlines())
    assert "dists" not in " ".join(head)
    assert (ann[head.index("full ID")], ann[head.index("full perceptual")]) == ("0.700", "0.600")


@pytest.mark.parametrize("measured", [2, 3])
def test_the_report_names_the_network_behind_every_figure(monkeypatch, measured: int):
    figures = dict(zip(FIGURES[:measured], (0.5, 1.0, 0.4), strict=False))
    found = {"person": "ann", "photos": 0.9, "pretrained": figures, "personalized": figures}
    monkeypatch.setattr(
        measuring, "load", lambda _: SimpleNamespace(name="heads", kind="person", personalized=id)
    )
    monkeypatch.setattr(protocol, "read_person", lambda folder: SimpleNamespace(name=folder))
    monkeypatch.setattr(protocol, "held_out", lambda *_, full: (found, {}))
    monkeypatch.setattr(adapter, "load_adapter", lambda path: None)
    status, report = measuring.evaluate(
        SimpleNamespace(folders=["ann"], ready=True, rank=None, no_full=True, tasks=False, out=None)
    )
    assert status == 0
    assert set(report["networks"]) == {"identity", *figures} - {"id_sim"}
