"""Made-up data of any size in the layout that training reads, to measure how fast a machine or a cluster trains.

The images are noise with the size, format and grey levels of NIH's (1024 px, PNG), so that decoding and streaming cost
what they will cost. Nothing can be learnt from them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from shared.calibration import NIH_PREVALENCE
from shared.findings import KEYS
from training.official import NIH_SIDE
from training.splits import make_folds, save_folds
from training.tables import load_table

IMAGES_PER_PATIENT = 3.6
"""NIH: 112,120 images of 30,805 patients."""


def write_synthetic(folder: Path, images: int, seed: int = 0, side: int = NIH_SIDE) -> None:
    """Write ``images/``, ``labels.csv`` and ``folds.csv`` (7 folds) of made-up radiographs into ``folder``."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"{number:08d}.png" for number in range(images)]
    patients = rng.integers(0, max(7, int(images / IMAGES_PER_PATIENT)), images)
    rows = pd.DataFrame(
        {
            "image": names,
            "source": "NIH",
            "patient_id": [f"p{number}" for number in patients],
            "view": rng.choice(["PA", "AP"], images),
            "age": rng.integers(18, 90, images),
            "sex": rng.choice(["M", "F"], images),
            "width": side,
            "height": side,
        }
    )
    prevalence = np.array([NIH_PREVALENCE[key] for key in KEYS])
    labels = pd.DataFrame((rng.random((images, len(KEYS))) < prevalence).astype(int), columns=list(KEYS))
    pd.concat([rows, labels.assign(Hernia=0)], axis=1).to_csv(folder / "labels.csv", index=False)

    def write(number: int) -> None:
        own = np.random.default_rng((seed, number))
        coarse = own.integers(0, 255, (12, 12), dtype=np.uint8)
        grain = own.integers(0, 8, (side, side), dtype=np.uint8)
        image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) // 8 * 8 + grain
        cv2.imwrite(str(folder / "images" / names[number]), image)

    with ThreadPoolExecutor() as pool:
        list(tqdm(pool.map(write, range(images)), total=images, desc="make images", unit="img"))
    save_folds(make_folds(load_table(folder, ("images",)), 7, seed), folder / "folds.csv")
