"""A site's own prevalences: how often each finding is there among the radiographs the site takes.

A TOML file (https://toml.io/en/v1.0.0)::

    name = "Ambulances of St. Mary's"

    [prevalence]          # share of films, between 0 and 1; a finding that is not named keeps the release's
    Effusion = 0.21
    Pneumothorax = 0.015
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import FirstRayError
from shared.findings import KEYS


@dataclass(frozen=True, slots=True)
class SitePrevalence:
    """Prevalences of a population, for :meth:`shared.calibration.Calibration.at`.

    Attributes:
        name: what the population is called wherever its probabilities are shown.
        findings: share of films with the finding, 0..1 exclusive; of all of the 13 or of some.
    """

    name: str
    findings: Mapping[str, float]


def load_prevalence(path: Path) -> SitePrevalence:
    """Read a file of prevalences.

    Raises:
        FirstRayError: ``prevalence_unreadable`` where there is no such file or it is no TOML; ``prevalence_invalid``
            where it lacks the name or the table, names an unknown finding, or holds what is no share between 0 and 1.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FirstRayError(
            "prevalence_unreadable",
            f"The prevalences in {path} cannot be read: {reason}.",
            "Give a TOML file with a name and a table [prevalence].",
        ) from None
    name, findings = content.get("name"), content.get("prevalence")
    if not isinstance(name, str) or not name.strip():
        raise _invalid(path, "it has no name", 'Add a line such as name = "Our hospital".')
    if not isinstance(findings, dict) or not findings:
        raise _invalid(path, "it has no table [prevalence] with findings", "Add one, e.g. Effusion = 0.21.")
    extra = sorted(set(content) - {"name", "prevalence"})
    if extra:
        raise _invalid(path, f"{extra[0]!r} means nothing here", "Only name and [prevalence] do; put findings there.")
    for key, share in findings.items():
        if key not in KEYS:
            raise _invalid(path, f"{key!r} is no finding", f"The findings are {', '.join(KEYS)}.")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not (0 < share < 1):
            raise _invalid(
                path, f"{key} is {share!r}, not a share between 0 and 1", "10 per cent is 0.1; 0 and 1 cannot be used."
            )
    return SitePrevalence(name.strip(), {key: float(share) for key, share in findings.items()})


def _invalid(path: Path, what: str, action: str) -> FirstRayError:
    return FirstRayError("prevalence_invalid", f"{path} cannot be used: {what}.", action)
