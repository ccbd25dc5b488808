"""The labelled radiographs a release is judged on: a data folder's tables, checked, and who of it was trained on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.boxes import Detections
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.detection_metrics import Truth
from training.detector_data import certainties, fused_boxes, load_reader_boxes, load_reads
from training.tables import LABEL_FILES, Table, data_folder

Patients = Literal["unseen", "new", "validation", "all"]
"""Whose films are read: of patients no part of the release was trained on (``unseen``: the new ones and the validation
patients), of one of these two groups only, or of all, training patients included."""

SPLIT: Final = Path(__file__).parents[1] / "folds" / "cxr.csv"
"""The folds the released models were trained by: the validation fold was kept out, all others were trained on."""

NEEDED: Final = ("image", "patient_id", *KEYS)
OPTIONAL: Final = ("source", "view", "age", "sex")
BOX_COLUMNS: Final = ("image", "finding", "x", "y", "w", "h")


@dataclass(frozen=True)
class Films:
    """The films to read, one row each.

    Attributes:
        folder: the data folder.
        table: rows and labels; ``source`` is never empty.
        truth: readers' boxes, fused, and what they looked for.
        cohort: ``[N]``, ``new``, ``validation`` or ``trained``: what the release knows of the patient.
        trained_left_out: films and patients left out because the release was trained on the patients.
        other_left_out: the same for films of the cohort that was not asked for.
        unplaced_boxes: rows of ``boxes.csv`` whose image is not in ``labels.csv``.
        trained, trained_boxes: the films of training patients in the folder, left out, to fit trivial baselines on.
    """

    folder: Path
    table: Table
    truth: Truth
    cohort: npt.NDArray[np.str_]
    trained_left_out: tuple[int, int]
    other_left_out: tuple[int, int]
    unplaced_boxes: int
    trained: Table
    trained_boxes: list[Detections]

    def __len__(self) -> int:
        return len(self.table)

    def path(self, row: int) -> Path:
        """The file of a film."""
        return self.folder / "images" / self.table.rows.at[row, "image"]

    @property
    def patients(self) -> npt.NDArray[Any]:
        """Patient of each film, ``[N]``."""
        return self.table.rows["patient_id"].to_numpy()

    def where(self, mask: npt.NDArray[np.bool_]) -> Films:
        """The films of a boolean mask ``[N]``."""
        truth = truth_where(self.truth, mask)
        return replace(self, table=self.table.where(mask), truth=truth, cohort=self.cohort[mask])


def truth_where(truth: Truth, mask: npt.NDArray[np.bool_]) -> Truth:
    """The films of a boolean mask ``[N]``."""
    chosen = np.flatnonzero(mask)
    return Truth([truth.boxes[int(row)] for row in chosen], truth.known[chosen], truth.patients[chosen])


def load_films(data: Path, patients: Patients = "unseen", split: Path = SPLIT, fold: int = 0) -> Films:
    """Read ``labels.csv`` of a data folder and, where they are there, ``boxes.csv`` and ``radiologist_reads.csv``.

    Args:
        data: a folder in the layout of the development data; its images lie in ``images``.
        patients: whose films are wanted.
        split: folds of the patients the release was trained by; a patient that is not in it is new.
        fold: the validation fold.

    Raises:
        FirstRayError: ``data_missing``, ``data_unreadable``, ``data_columns_missing``, ``data_labels_invalid``,
            ``data_boxes_invalid``, ``data_duplicate_image``, ``data_empty`` or ``split_missing``, each saying where.
    """
    table = read_labels(data_folder(data) / LABEL_FILES["images"])
    boxes = read_boxes(data, table)
    cohort = cohorts(table, split, fold)
    chosen = {"unseen": cohort != "trained", "all": cohort != ""}.get(patients, cohort == patients)
    if not chosen.any():
        counted = ", ".join(f"{number} {name}" for name, number in sorted(Counter(cohort.tolist()).items()))
        raise FirstRayError(
            "data_empty", f"No film of {data} is of the patients asked for ({patients}); it has {counted}.",
            "Take other patients with --patients, or name the split the release was trained by.",
        )  # fmt: skip
    trained, other = (~chosen & (cohort == "trained")), (~chosen & (cohort != "trained"))
    ids = table.rows["patient_id"].to_numpy()
    kept = table.where(chosen)
    names = "images/" + kept.rows["image"]
    grouped = dict(list(boxes.groupby("name")))
    drawn = [grouped.get(name, boxes.iloc[:0]) for name in names]
    known = certainties(kept, drawn, load_reads(data)) > 0
    return Films(
        folder=data,
        table=kept,
        truth=Truth([fused_boxes(part) for part in drawn], known, ids[chosen]),
        cohort=cohort[chosen],
        trained_left_out=(int(trained.sum()), len(set(ids[trained]))),
        other_left_out=(int(other.sum()), len(set(ids[other]))),
        trained=table.where(trained),
        trained_boxes=[
            fused_boxes(grouped[name]) for name in "images/" + table.rows["image"][trained] if name in grouped
        ],
        unplaced_boxes=int((~boxes["name"].isin("images/" + table.rows["image"])).sum()),
    )


def read_labels(path: Path) -> Table:
    """``labels.csv``, checked; an empty label is unknown, an absent optional column is empty."""
    rows = read_csv(path, NEEDED)
    if rows.empty:
        raise FirstRayError("data_empty", f"{path} lists no image.", "Check that this is the right file.")
    for column in OPTIONAL:
        if column not in rows:
            rows[column] = ""
    twice = rows["image"][rows["image"].duplicated()]
    if len(twice):
        raise FirstRayError(
            "data_duplicate_image", f"{path} lists {twice.iloc[0]} more than once.", "Keep one row an image."
        )
    labels = np.full((len(rows), len(KEYS)), np.nan, np.float32)
    for number, key in enumerate(KEYS):
        value = pd.to_numeric(rows[key].replace("", np.nan), errors="coerce").to_numpy(np.float32)
        wrong = (rows[key] != "").to_numpy() & ~np.isin(value, (0, 1))
        if wrong.any():
            row = rows[wrong].iloc[0]
            raise FirstRayError(
                "data_labels_invalid", f"{path} says {row[key]!r} of {key} in {row['image']}.",
                "A label is 1, 0, or empty for unknown.",
            )  # fmt: skip
        labels[:, number] = value
    rows["set"], rows["age"] = "images", pd.to_numeric(rows["age"], errors="coerce")
    rows["source"] = rows["source"].replace("", "unnamed")
    return Table(rows[["set", "image", "source", "patient_id", "view", "age", "sex"]], labels)


def read_boxes(data: Path, table: Table) -> pd.DataFrame:
    """``boxes.csv``, checked, of the 13 findings; none where there is no such file."""
    path = data / "boxes.csv"
    if path.is_file():
        rows = read_csv(path, BOX_COLUMNS)
        place = rows[["x", "y", "w", "h"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        wrong = ~((place >= -0.01) & (place <= 1.01)).all(axis=1) & rows["finding"].isin(KEYS).to_numpy()
        if wrong.any():
            row = rows[wrong].iloc[0]
            raise FirstRayError(
                "data_boxes_invalid", f"{path} has a box outside {row['image']}, or one that is no number.",
                "x, y, w and h are fractions of the image's width and height, 0..1.",
            )  # fmt: skip
    return load_reader_boxes(data, ("images",))


def read_csv(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """A table of text cells, with all ``needed`` columns."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors and undecodable text are ValueErrors
        raise FirstRayError(
            "data_unreadable", f"{path} cannot be read as CSV: {error}.", "Save it as UTF-8, comma-separated."
        ) from None
    missing = [column for column in needed if column not in rows]
    if missing:
        raise FirstRayError(
            "data_columns_missing", f"{path} lacks the columns {', '.join(missing)}.",
            "Add them; a finding nobody looked for is an empty column.",
        )  # fmt: skip
    return rows


def cohorts(table: Table, split: Path, fold: int) -> npt.NDArray[np.str_]:
    """What the release knows of each film's patient: ``new``, ``validation`` or ``trained``, ``[N]``."""
    if not split.is_file():
        raise FirstRayError("split_missing", f"There is no split {split}.", "Name the folds the release was made by.")
    folds = read_csv(split, ("patient_id", "fold")).set_index("patient_id")["fold"]
    found = table.rows["patient_id"].map(folds)
    named = np.where(found == str(fold), "validation", "trained")
    return np.where(found.isna(), "new", named)
