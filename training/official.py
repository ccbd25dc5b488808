"""The whole public data sets in the layout that training reads: NIH ChestX-ray14's own tables to ``labels.csv`` and
``boxes.csv``.

NIH: Wang et al., CVPR 2017 (``Data_Entry_2017*.csv``, ``BBox_List_2017.csv``; images of 1024 px in ``images/``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from shared.errors import FirstRayError
from shared.findings import KEYS

NIH_SIDE = 1024
"""Side in pixels of the published images, to which the published boxes refer."""

_COLUMNS = {
    "Image Index": "image",
    "Patient ID": "patient_id",
    "View Position": "view",
    "Patient Age": "age",
    "Patient Gender": "sex",
}


def nih_labels(entries: Path) -> pd.DataFrame:
    """``labels.csv`` of the official table (CSV, may be gzipped): one row an image, 1 or 0 for each finding and Hernia.

    Patient ids become ``nih-<number>``. The columns ``width`` and ``height`` are those of the published image.

    Raises:
        FirstRayError: ``official_table_invalid`` where columns are missing or a label is none of the known 15.
    """
    official = pd.read_csv(entries)
    missing = {*_COLUMNS, "Finding Labels"} - set(official.columns)
    if missing:
        raise FirstRayError(
            "official_table_invalid",
            f"{entries.name} lacks the column {sorted(missing)[0]!r}, so it is not NIH's Data_Entry_2017.",
            "Pass the table as NIH published it.",
        )
    marked = official["Finding Labels"].str.get_dummies("|")
    unknown = set(marked.columns) - {*KEYS, "Hernia", "No Finding"}
    if unknown:
        raise FirstRayError(
            "official_table_invalid", f"{entries.name} has the label {sorted(unknown)[0]!r}.", "Check the file."
        )
    rows = official[list(_COLUMNS)].rename(columns=_COLUMNS)
    rows["patient_id"] = "nih-" + rows["patient_id"].astype(str)
    rows = rows.assign(source="NIH", width=NIH_SIDE, height=NIH_SIDE)
    return pd.concat([rows, marked.reindex(columns=[*KEYS, "Hernia"], fill_value=0)], axis=1)


def nih_boxes(boxes: Path) -> pd.DataFrame:
    """``boxes.csv`` of the official list: corner and size in fractions of the image, reader empty."""
    official = pd.read_csv(boxes)
    corner_and_size = official.iloc[:, 2:6].to_numpy(np.float64) / NIH_SIDE
    finding = official["Finding Label"].replace({"Infiltrate": "Infiltration"})
    table = pd.DataFrame(corner_and_size, columns=["x", "y", "w", "h"])
    named = {"image": official["Image Index"], "source": "NIH", "finding": finding, "original_label": finding}
    return pd.concat([pd.DataFrame({**named, "reader": ""}), table], axis=1)


def write_nih(entries: Path, boxes: Path | None, folder: Path) -> int:
    """Write ``labels.csv`` (and ``boxes.csv``) into the data folder that holds ``images/``; returns the images."""
    labels = nih_labels(entries)
    folder.mkdir(parents=True, exist_ok=True)
    labels.to_csv(folder / "labels.csv", index=False)
    if boxes is not None:
        nih_boxes(boxes).to_csv(folder / "boxes.csv", index=False)
    return len(labels)
