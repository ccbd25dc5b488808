"""The tables of a data folder: which images there are, their labels, boxes and patients.

Knows the CSV layout described in a data folder's README (``labels.csv``, ``nih128_labels.csv``, ``boxes.csv``, ...).
Does not know pixels (:mod:`training.images`) or how patients are divided (:mod:`training.splits`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.errors import FirstRayError
from shared.findings import KEYS

DATA_VARIABLE = "FIRSTRAY_DATA"

LABEL_FILES = {"images": "labels.csv", "nih128": "nih128_labels.csv", "nih64": "nih64_labels.csv"}
"""Image set -> its table. ``images`` is a folder, the others are ZIP archives of the same name."""


def data_folder(option: Path | None = None) -> Path:
    """The data folder: the option if given, otherwise the environment variable ``FIRSTRAY_DATA``.

    Raises:
        FirstRayError: ``data_missing`` where neither names a folder with a ``labels.csv``.
    """
    named = option or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if named is None:
        raise FirstRayError(
            "data_missing",
            "No training data folder was given.",
            f"Pass --data DIR or set {DATA_VARIABLE} to the folder that holds labels.csv.",
        )
    if not (named / "labels.csv").is_file():
        raise FirstRayError(
            "data_missing", f"{named} holds no labels.csv, so it is not a training data folder.", "Check the path."
        )
    return named


@dataclass(frozen=True)
class Table:
    """All images of the chosen sets, one row each, in a fixed order.

    Attributes:
        rows: columns ``set``, ``image``, ``source``, ``patient_id``, ``view``, ``age``, ``sex``.
        labels: float32 ``[N, 13]`` in the order of :data:`shared.findings.KEYS`; 1, 0, or NaN for unknown.
    """

    rows: pd.DataFrame
    labels: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: npt.NDArray[np.bool_] | pd.Series) -> Table:
        """The rows of a boolean mask ``[N]``, in the same order."""
        chosen = np.asarray(mask, bool)
        return Table(self.rows[chosen].reset_index(drop=True), self.labels[chosen])


def load_table(data: Path, sets: tuple[str, ...] = tuple(LABEL_FILES)) -> Table:
    """Read the label tables of ``sets``. Unknown labels (empty cells) become NaN, never 0."""
    parts = []
    for name in sets:
        part = pd.read_csv(data / LABEL_FILES[name], dtype={"patient_id": str, "view": str, "sex": str})
        part.insert(0, "set", name)
        if "source" not in part:
            part["source"] = "NIH"
        parts.append(part)
    rows = pd.concat(parts, ignore_index=True)
    labels = rows[list(KEYS)].to_numpy(np.float32)
    columns = ["set", "image", "source", "patient_id", "view", "age", "sex"]
    return Table(rows[columns].fillna({"view": "", "sex": ""}), labels)
