"""Personal data and secrets are counted by kind; ordinary problems have none."""

from alignment_extraction.report.leaks import scan
from tests.report_study import rows


def test_kinds_are_counted_once_a_text() -> None:
    found = scan(
        [
            "Write to ada@example.org or bo@example.org.",
            "Call +41 44 668 18 00 now",
            "key AKIAIOSFODNN7EXAMPLE",
            "ghp_" + "a" * 36 + "\nand c@example.com",
            "-----BEGIN RSA PRIVATE KEY-----",
            None,
            "",
        ]
    )
    assert found == {
        "E-mail address": 2,
        "AWS Access Key": 1,
        "GitHub Token": 1,
        "Phone number": 1,
        "Private Key": 1,
    }


def test_no_false_alarms_in_problems() -> None:
    texts = [
        "A farmer sells 12 crates for $3.50 each + 4 jars. How many are left?",
        "Compute -5.25 * 1234567 + 89, then 2+3=5 and x@y",
        "The password is on page 12.",
        *rows()["question"].head(500),
    ]
    assert scan(texts) == {}


def test_the_values_stay_inside() -> None:
    assert "ada" not in str(scan(["ada@example.org"]))
