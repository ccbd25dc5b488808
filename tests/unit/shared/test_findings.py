"""The vocabulary is the contract: 13 NIH labels, each with codes and names."""

from shared.findings import BY_KEY, FINDINGS, KEYS


def test_exactly_the_nih_labels_without_hernia_in_their_order():
    assert KEYS == (
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pneumonia",
        "Pneumothorax",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Pleural_Thickening",
    )


def verhoeff_valid(digits: str) -> bool:
    """SNOMED CT identifiers carry a Verhoeff check digit (SNOMED CT Release File Specification, 7.2)."""
    d = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ]
    p = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        p.append([p[-1][p[1][n]] for n in range(10)])
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = d[check][p[place % 8][int(digit)]]
    return check == 0


def test_snomed_codes_are_distinct_and_pass_their_check_digit():
    codes = [finding.snomed for finding in FINDINGS if finding.snomed]
    assert len(set(codes)) == len(codes) == 12
    assert [code for code in codes if not verhoeff_valid(code)] == []


def test_codes_agree_with_the_concepts_that_dicom_names():
    """pydicom ships the SNOMED CT concepts of the DICOM context groups (PS3.16)."""
    from pydicom.sr.codedict import codes

    for key, concept in (
        ("Pneumothorax", codes.SCT.Pneumothorax),
        ("Edema", codes.SCT.PulmonaryEdema),
        ("Effusion", codes.SCT.PleuralEffusion),
    ):
        assert BY_KEY[key].snomed == concept.value


def test_every_finding_speaks_both_languages():
    for finding in BY_KEY.values():
        assert finding.english.isascii()
        assert any("가" <= letter <= "힣" for letter in finding.korean)
        assert any("가" <= letter <= "힣" for letter in finding.explanation_korean)
        assert finding.explanation.endswith(".")
