"""A site's own prevalences: what is read, and that every mistake in the file is named."""

from pathlib import Path

import pytest

from shared.errors import FirstRayError
from shared.prevalence import load_prevalence


def test_a_file_may_name_some_of_the_findings(tmp_path: Path):
    file = tmp_path / "site.toml"
    file.write_text('name = "제일병원 구급대"\n[prevalence]\nEffusion = 0.2\nEdema = 0.05\n', encoding="utf-8")
    site = load_prevalence(file)
    assert site.name == "제일병원 구급대"
    assert site.findings == {"Effusion": 0.2, "Edema": 0.05}


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        (None, "prevalence_unreadable", "No such file"),
        (b"name = ", "prevalence_unreadable", "Invalid value"),
        (b"\xff\xfe", "prevalence_unreadable", "utf-8"),
        (b"[prevalence]\nMass = 0.1", "prevalence_invalid", "no name"),
        (b'name = " "\n[prevalence]\nMass = 0.1', "prevalence_invalid", "no name"),
        (b'name = "x"', "prevalence_invalid", "no table"),
        (b'name = "x"\nMass = 0.1\n[prevalence]\nEdema = 0.1', "prevalence_invalid", "'Mass'"),
        (b'name = "x"\n[prevalence]\nmass = 0.1', "prevalence_invalid", "'mass' is no finding"),
        (b'name = "x"\n[prevalence]\nHernia = 0.1', "prevalence_invalid", "'Hernia'"),
        (b'name = "x"\n[prevalence]\nMass = 10', "prevalence_invalid", "Mass is 10"),
        (b'name = "x"\n[prevalence]\nMass = 0', "prevalence_invalid", "Mass is 0"),
        (b'name = "x"\n[prevalence]\nMass = 1.0', "prevalence_invalid", "Mass is 1.0"),
        (b'name = "x"\n[prevalence]\nMass = nan', "prevalence_invalid", "Mass is nan"),
        (b'name = "x"\n[prevalence]\nMass = true', "prevalence_invalid", "Mass is True"),
        (b'name = "x"\n[prevalence]\nMass = "10 %"', "prevalence_invalid", "Mass is '10 %'"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: bytes | None, code: str, named: str):
    file = tmp_path / "site.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FirstRayError) as caught:
        load_prevalence(file)
    assert caught.value.code == code
    assert named in caught.value.message
    assert caught.value.action
