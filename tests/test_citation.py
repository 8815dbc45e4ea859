"""CITATION.cff is what tools read: YAML with the keys that CFF 1.2.0 requires."""

import pathlib

import yaml


def test_the_software_and_the_paper_can_be_cited():
    text = (pathlib.Path(__file__).parents[1] / "CITATION.cff").read_text()
    cited = yaml.safe_load(text)
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # required at the top
    assert cited["cff-version"] == "1.2.0" and cited["type"] in ("software", "dataset")
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= paper.keys()  # required of a reference
    for author in (*cited["authors"], *paper["authors"]):
        assert author.keys() <= {"name"} or author.keys() <= {"family-names", "given-names"}  # an entity, or a person
    assert [author["family-names"] for author in paper["authors"]] == ["Feng", "Wei", "Owens"]
    assert paper["url"].endswith("2510.26799") and isinstance(paper["year"], int)
