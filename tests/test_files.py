"""A file is whole at every moment."""

import pytest
from etils import epath

from mdc_jax import files
from mdc_jax.config import ConfigError


def test_a_file_is_written_under_another_name_until_it_is_whole(tmp_path):
    path = tmp_path / "notes.txt"
    files.write(path, "old \N{SNOWMAN}")
    with files.whole(str(path)) as unfinished:
        unfinished.write_text("ne")
        assert path.read_text(encoding="utf-8") == "old \N{SNOWMAN}"
        assert unfinished == epath.Path(f"{path}{files.UNFINISHED}")
        unfinished.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "notes.txt"
    files.write(path, b"old")
    with pytest.raises(OSError, match="full"), files.whole(path) as unfinished:
        unfinished.write_text("ne")
        raise OSError("full")
    assert path.read_text() == "old"


def test_a_damaged_file_is_no_missing_one(tmp_path):
    path = tmp_path / "plan.json"
    assert files.read_json(path) is None
    files.write(path, '{"steps": 3}')
    assert files.read_json(path) == {"steps": 3}
    for content in ('{"steps": 3', "[3]", b"\xff"):
        files.write(path, content)
        assert files.read_json(path, missing_if_damaged=True) is None
        with pytest.raises(ConfigError, match=r"plan\.json is damaged: copy it again, or remove it"):
            files.read_json(path)


def test_json_lines_are_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert files.read_json_lines(path) == []
    files.write_json_lines(path, ({"id": i} for i in range(2)))
    assert files.read_json_lines(path) == [{"id": 0}, {"id": 1}]
    for content in (path.read_bytes()[:-3], b"3\n", b"\xff"):
        files.write(path, content)
        with pytest.raises(ConfigError, match=r"lines\.jsonl is damaged"):
            files.read_json_lines(path)
