"""Where a model card answers the reporting checklists, item by item, and where it does not.

CLAIM: Checklist for Artificial Intelligence in Medical Imaging, 2024 update (Tejani et al., Radiology: Artificial
Intelligence 6, 2024). TRIPOD+AI (Collins et al., BMJ 385, 2024). Good machine learning practice for medical device
development: guiding principles (IMDRF N88, 2025, after FDA, Health Canada and MHRA, 2021). The items are shortened.
"""

from __future__ import annotations

from typing import Final

Item = tuple[str, str, str]
"""Number, item in short, and the section that answers it or what is missing."""

CLAIM: Final[tuple[Item, ...]] = (
    ("1", "Identified as a study of AI, with its category", "Title, What it is for"),
    ("2", "Structured summary", "Summary of figures"),
    ("3", "Background and intended use", "What it is for"),
    ("4", "Aims and hypotheses", "What it is for; no hypothesis was registered"),
    ("5", "Prospective or retrospective", "Data: retrospective"),
    ("6", "Study goal", "What it is for"),
    ("7", "Data sources", "Data"),
    ("8", "Inclusion and exclusion criteria", "Data: as selected by the sources; not under our control"),
    ("9", "Preprocessing", "Inputs"),
    ("10", "Selection of subsets", "Data"),
    ("11", "De-identification", "Data: done by the sources before publication"),
    ("12", "Missing data", "Data: unknown labels are left out of loss and figures"),
    ("13", "Image acquisition", "Not known: the sources do not state devices or protocols"),
    ("14", "Method of the reference standard", "Data, Label noise"),
    ("15", "Rationale of the reference standard", "Data: the only labels to be had; their noise is measured"),
    ("16", "Source of annotations", "Data"),
    ("17", "Annotation of the test set", "Data: as the other films; no re-reading was done"),
    ("18", "Inter- and intra-rater variability", "Label noise (label against second read); between readers not done"),
    ("19", "Assignment to partitions", "Data: patients, stratified by finding, source and view"),
    ("20", "Level at which partitions are disjoint", "Data: patient"),
    ("21", "Intended sample size", "Not done: the size is what there was; intervals show what it allows"),
    ("22", "Model", "How it works"),
    ("23", "Software", "Training; exact versions in constraints.txt of the code revision"),
    ("24", "Initial parameters", "Training"),
    ("25", "Training", "Training"),
    ("26", "Selection of the final model", "Training; every try in training/EXPERIMENTS.md"),
    ("27", "Ensembling", "Training"),
    ("28", "Metrics", "Figures"),
    ("29", "Uncertainty", "Figures: patient-clustered bootstrap"),
    ("30", "Robustness", "Subgroups, Variants, Quality gate; noise and device changes not done"),
    ("31", "Explainability", "Boxes: activation regions and their measured overlap"),
    ("32", "Internal evaluation", "Figures: validation patients"),
    ("33", "External testing", "Not done here: run 'firstray evaluate' on patients of your own"),
    ("34", "Registration", "Not done: no clinical trial"),
    ("35", "Numbers included and excluded", "Data, Quality gate"),
    ("36", "Demographics of each partition", "Data"),
    ("37", "Performance with uncertainty", "Figures"),
    ("38", "Diagnostic performance with precision", "Operating points"),
    ("39", "Failure analysis", "Known failures; pictures in the report of 'firstray evaluate'"),
    ("40", "Limitations", "Limits"),
    ("41", "Implications for practice", "What it is not for, Limits"),
    ("42", "Protocol", "Not done: there was no protocol before the study; docs/decisions say what was decided"),
    ("43", "Availability of software, model and data", "Licence, terms and contact"),
    ("44", "Funding", "None"),
)

TRIPOD_AI: Final[tuple[Item, ...]] = (
    ("1-2", "Title, abstract", "Title, Summary of figures"),
    ("3", "Background, target population, inequalities", "What it is for, Subgroups; ethnicity is not known"),
    ("4", "Objectives", "What it is for"),
    ("5", "Data, dates", "Data; dates of the films are not known"),
    ("6", "Participants: setting, eligibility, treatment", "Data; treatment is not known"),
    ("7", "Data preparation", "Inputs, Data"),
    ("8", "Outcome and its assessors", "Data, Label noise; NIH labels were mined by machine, not blinded"),
    ("9", "Predictors", "Inputs: the film alone"),
    ("10", "Sample size", "Not done: the size is what there was"),
    ("11", "Missing data", "Data"),
    ("12", "Analytical methods", "Training, Calibration, Figures"),
    ("13", "Class imbalance", "Calibration: probabilities moved to stated prevalences"),
    ("14", "Fairness", "Subgroups: sex, age and view only"),
    ("15", "Model output", "Outputs, Operating points"),
    ("16", "Training against evaluation", "Data: the same sources; differences in numbers are listed"),
    ("17", "Ethical approval", "Not sought: published, de-identified films"),
    ("18", "Open science", "Licence, terms and contact"),
    ("19", "Patient and public involvement", "Not done"),
    ("20", "Participants, their flow and characteristics", "Data, Quality gate"),
    ("21", "Numbers in development", "Data"),
    ("22", "Full model specification", "The files of the release, their hashes in manifest.json"),
    ("23", "Performance, also in groups", "Figures, Subgroups"),
    ("24", "Model updating", "Calibration: a site's own prevalences; retraining not done"),
    ("25", "Interpretation", "Known failures, Limits"),
    ("26", "Limitations", "Limits"),
    ("27", "Usability in current care", "Inputs (refusals), Outputs (states); no study with users was done"),
)

PRACTICE: Final[tuple[Item, ...]] = (
    ("1", "Intended use understood, many disciplines", "What it is for; no clinician took part"),
    ("2", "Good software, design and security practice", "Version: signed, hashed, tested; no certified process"),
    ("3", "Evaluation data represent the patients", "Not met: chosen hospital films, no ambulance (Limits)"),
    ("4", "Training independent of test data", "Data: patients disjoint; but see the note on validation patients"),
    ("5", "Reference standards fit for purpose", "In part: Label noise"),
    ("6", "Model suited to data and use", "How it works, Variants"),
    ("7", "Performance of the human with the model", "Not done"),
    ("8", "Testing under clinically relevant conditions", "Not done"),
    ("9", "Clear, essential information for users", "This card; codes, states and refusals on screen"),
    ("10", "Deployed models monitored", "Not in this release; 'firstray evaluate' measures any labelled set"),
)


def checklist(items: tuple[Item, ...]) -> str:
    """A checklist as a Markdown table."""
    return "\n".join(
        ["| item | | where, or what is missing |", "| --- | --- | --- |", *(f"| {' | '.join(i)} |" for i in items)]
    )
