"""Patient-disjoint folds over all image sets at once, stratified by finding, source and view.

A patient's images of every set share one fold, so nothing a model trains on shows a patient it is judged on. Folds are
made once from a seed and kept in a file; training reads the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from shared.errors import FirstRayError
from training.tables import Table


def make_folds(table: Table, folds: int, seed: int) -> pd.DataFrame:
    """Divide patients into ``folds`` groups (multilabel-stratified, Sechidis et al., ECML PKDD 2011).

    Stratified by: each finding in any of the patient's images, each finding in the full-size images (these are judged),
    source, AP view, and having any full-size image.

    Returns:
        ``patient_id``, ``fold`` (0 .. folds-1), sorted by patient.
    """
    positive = np.nan_to_num(table.labels) > 0
    full_size = (table.rows["set"] == "images").to_numpy()
    traits = np.column_stack(
        [
            positive,
            positive & full_size[:, None],
            (table.rows["source"] != "NIH").to_numpy(),
            (table.rows["view"] == "AP").to_numpy(),
            full_size,
        ]
    )
    patients = pd.DataFrame(traits).groupby(table.rows["patient_id"].to_numpy()).max().sort_index()
    splitter = MultilabelStratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.full(len(patients), -1)
    for number, (_, members) in enumerate(splitter.split(np.zeros(len(patients)), patients.to_numpy(int))):
        fold[members] = number
    return pd.DataFrame({"patient_id": patients.index, "fold": fold})


def save_folds(folds: pd.DataFrame, path: Path) -> None:
    """Write the folds as CSV, one patient a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folds.to_csv(path, index=False)


def load_folds(path: Path, table: Table) -> np.ndarray:
    """Fold of each row of ``table``, int ``[N]``.

    Raises:
        FirstRayError: ``split_incomplete`` where a patient of the table has no fold: the file belongs to other data.
    """
    folds = pd.read_csv(path, dtype={"patient_id": str}).set_index("patient_id")["fold"]
    missing = set(table.rows["patient_id"]) - set(folds.index)
    if missing:
        raise FirstRayError(
            "split_incomplete",
            f"{len(missing)} patients of the data have no fold in {path.name}, so it was made from other data.",
            "Make a new split with 'firstray train split'.",
        )
    return folds.loc[table.rows["patient_id"]].to_numpy()
