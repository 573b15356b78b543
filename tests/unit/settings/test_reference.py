"""The table of settings in the docs is what the schema says."""

from pathlib import Path

from docs import settings as reference

ROOT = Path(__file__).parents[3]


def test_the_documented_table_is_the_schema() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert reference.markdown() in page, (
        "docs/settings.md: the table of settings is out of date; "
        "replace it with what `python docs/settings.py` prints"
    )


def test_every_setting_has_a_meaning_and_a_type() -> None:
    table = list(reference.rows())
    assert len(table) > 80
    for key, kind, _default, meaning in table:
        assert meaning, f"{key} has no description in the schema"
        assert kind not in ("", "any"), f"{key} has no readable type"


def test_defaults_and_paths() -> None:
    table = {key: (kind, default) for key, kind, default, _ in reference.rows()}
    assert table["studies.NAME.sampling.temperature"] == ("number", "`1.0`")
    assert table["studies.NAME.thresholds.semantic"] == ("number", "`0.95`")
    assert table["studies.NAME.corpus"][1] == "required"
    assert table["corpora.NAME.sources[].name"][1] == "required"
