"""The model card of a release, written from its manifest and figures (Mitchell et al., FAT* 2019)."""

from __future__ import annotations

from typing import Any

from shared.findings import KEYS
from shared.release import Manifest


def model_card(manifest: Manifest, parity: str) -> str:
    """Markdown text; ``parity`` is the parity table in Markdown."""
    metrics = manifest.metrics
    located = [f"{key}: {manifest.located_by[key]}" for key in KEYS]
    return f"""# FirstRay model release {manifest.id}

Made {manifest.created} from code revision `{manifest.code_revision}`;
training data {manifest.training_data_sha256[:16]}.

## What it is for

Research on reading frontal chest radiographs of adults outside the hospital: calibrated probabilities of 13
findings, and where they are. **Not a medical device.** It does not replace a radiologist, and no decision about
a patient may rest on it alone.

## What it is not for

Lateral films, children, other body parts, CT or MR; excluding a finding ("nothing marked" is not "normal");
findings outside the 13. Refusals of the quality gate are part of the product and should not be overridden lightly.

## Models

- Classifier: EfficientNet-Lite0 at {manifest.inputs["classifier"].side} px from ImageNet weights (Apache-2.0), its
  head a 1x1 convolution to 13 activation maps.
- Detector: YOLOv5n at {manifest.inputs["detector"].side} px from COCO weights, trained with ultralytics' network and
  loss (AGPL-3.0), exported as raw heads.
- Gate: a small convolutional network at {manifest.gate.side} px and measurements of the grey levels.

What draws the place of each finding: {", ".join(located)}.

## Data and terms

NIH ChestX-ray14 (NIH Clinical Center; Wang et al., CVPR 2017, https://nihcc.app.box.com/v/ChestXray-NIHCC), reader
boxes of RSNA, ChestX-Det10 and others on its images, and VinDr-CXR (Nguyen et al., Scientific Data 2022). VinDr, RSNA
and ChestX-Det10 are for research only, and so are these weights. NIH's labels were mined from report text and are
noisy. Patients of the validation fold were kept out of every training step.

## Figures

{figures_table(metrics)}

AUC per finding (fp32): {", ".join(f"{key} {value}" for key, value in metrics["auc_per_finding"].items())}.

Average precision at 0.4 per finding (fp32): {", ".join(f"{k} {v}" for k, v in metrics["ap_per_finding"].items())}.

Calibrated on {manifest.variants[0].calibration.population}, moved to the prevalences of NIH ChestX-ray14
(112,120 images); flags at {manifest.variants[0].calibration.operating_point}. The calibration was fitted on the same
radiographs, so its own error is not yet measured on others.

## Variants against full precision

{parity}

## Limits

The validation set is small: half-widths of about 0.04 for a mean AUC. Prevalences in it are not those of a hospital.
Films come from two sources in two countries; nothing is known about portable units in ambulances. View, sex and age
alone reach the baseline above, so part of any AUC here may be a shortcut.
"""


def figures_table(metrics: dict[str, Any]) -> str:
    """The figures of ``metrics["figures"]`` as a Markdown table."""
    lines = ["| figure | value [95 %] | population |", "| --- | --- | --- |"]
    lines += [f"| {f['name']} | {f['value']} | {f['population']} |" for f in metrics["figures"]]
    return "\n".join(lines)
