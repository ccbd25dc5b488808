"""What a model card says of the data: how many films of whom, how they are split, and how noisy their labels are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.findings import KEYS
from training.decision_metrics import wilson
from training.detector_data import CHESTXDET10, load_reader_boxes, load_reads
from training.splits import load_folds
from training.tables import LABEL_FILES, Table, load_table


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data folder and its split, as rows of tables.

    Attributes:
        sets: set, source, films and patients trained on, films and patients of the validation fold.
        findings: finding, films labelled with it among those trained on, and the same of the validation fold's
            full-size films; fused boxes are not counted, readers' boxes are.
        people: partition, films, patients, median age, share of women, share of AP views (where stated).
        noise: finding, who read again, and of the films labelled with and without it the share that the reader marked.
    """

    sets: list[tuple[str, str, int, int, int, int]]
    findings: list[tuple[str, int, int, int]]
    people: list[tuple[str, int, int, str, str, str]]
    noise: list[tuple[str, str, str, str]]


def data_facts(data: Path, split: Path, fold: int) -> DataFacts:
    """The facts of the image sets that are in the folder; patients of ``fold`` are the validation patients."""
    present = tuple(name for name, file in LABEL_FILES.items() if (data / file).is_file())
    table = load_table(data, present)
    held = load_folds(split, table) == fold
    rows = table.rows
    sets = []
    for (name, source), part in rows.groupby(["set", "source"], sort=False):
        mine = held[part.index]
        trained, judged = part["patient_id"][~mine], part["patient_id"][mine]
        sets.append((name, source, len(trained), trained.nunique(), len(judged), judged.nunique()))
    boxes = load_reader_boxes(data, present)["finding"].value_counts()
    full = held & (rows["set"] == "images").to_numpy()
    findings = [
        (
            key,
            int((table.labels[~held, n] == 1).sum()),
            int((table.labels[full, n] == 1).sum()),
            int(boxes.get(key, 0)),
        )
        for n, key in enumerate(KEYS)
    ]
    people = [person_facts(name, rows[mask]) for name, mask in (("trained on", ~held), ("validation", held))]
    return DataFacts(sets, findings, people, label_noise(table, load_reads(data)))


def person_facts(name: str, rows: pd.DataFrame) -> tuple[str, int, int, str, str, str]:
    """Number, age, sex and view of a partition's films."""
    age, sex, view = pd.to_numeric(rows["age"], errors="coerce").dropna(), rows["sex"], rows["view"]
    quarters = "-" if age.empty else "{:.0f} ({:.0f} to {:.0f})".format(*np.percentile(age, [50, 25, 75]))
    return (
        name, len(rows), rows["patient_id"].nunique(), quarters,
        _percentage((sex == "F").sum(), (sex != "").sum()), _percentage((view == "AP").sum(), (view != "").sum()),
    )  # fmt: skip


def label_noise(table: Table, reads: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """How often radiologists who read a film again marked a finding, by what its label says."""
    names = (table.rows["set"] + "/" + table.rows["image"]).to_numpy()
    known = np.isin(names, reads.index)
    marked = reads.loc[names[known]]
    labels, found = table.labels[known], []
    again: list[tuple[str, str, Any, Any]] = [
        ("Pneumonia", "RSNA (lung opacity)", marked["rsna_class"] != "", marked["rsna_class"] == "Lung Opacity")
    ]
    drawn = marked["chestxdet10"].str.split("|")
    for key in CHESTXDET10:
        again.append((key, "ChestX-Det10", marked["chestxdet10"] != "", drawn.map(lambda keys, k=key: k in keys)))
    for key, reader, read, seen in again:
        label, read, seen = labels[:, KEYS.index(key)], read.to_numpy(bool), seen.to_numpy(bool)
        cells = [_percentage((seen & read & (label == v)).sum(), (read & (label == v)).sum()) for v in (1, 0)]
        if (read & (label == 1)).any():
            found.append((key, reader, *cells))
    return [(key, reader, with_it, without) for key, reader, with_it, without in found]


def _percentage(number: Any, of: Any) -> str:
    """A share in per cent with its Wilson interval and its denominator."""
    if not of:
        return "-"
    low, high = wilson(np.array([number / of]), np.array([float(of)]))
    return f"{number / of:.0%} [{low[0]:.0%}, {high[0]:.0%}] of {of}"
