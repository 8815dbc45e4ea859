"""Data from strangers: whatever was done to their files, they are read or refused, inside of their folder."""

import hashlib
import io
import json
import pathlib
import random

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
import tokenizers

from mdc_jax.config import ConfigError, sections
from mdc_jax.data import images, tokenizer
from mdc_jax.data.batch import EOS_ID
from mdc_jax.data.prepare import coco, recaptions, records, samples
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.lengths import Lengths
from mdc_jax.data.prepare.manifest import MANIFEST, SUFFIX, Manifest
from mdc_jax.data.sources import folder, open_source
from mdc_jax.data.sources.base import BadRecord, Family
from mdc_jax.data.tokenizer import Tokenizer, sentence_piece
from tests import tampering

WORDS = ["[UNK]", "[PAD]", "[SEP]", "a", "red", "cat", "##s"]


def picture() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(wordpiece().to_str())
    families = {"kind": Family("class", ("cat", "dog"))}
    manifest = Manifest("x", "CC0", "nobody", families, {})
    plans = [
        records.ShardPlan(
            f"{split}-0{SUFFIX}",
            split,
            "x",
            3,
            lambda: [Example(picture(), ("a red cat",), {"kind": 1}) for _ in range(3)],
        )
        for split in ("train", "test")
    ]
    records.write_all(folder, manifest, plans, lengths=Lengths(str(folder / "tokenizer.json")))
    return folder


def test_manifests(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = json.loads((prepared / MANIFEST).read_text())
    words = Tokenizer.load(prepared / "tokenizer.json")
    before, read = tampering.peak_memory(), 0
    for number in range(300):
        (tmp_path / MANIFEST).write_bytes(tampering.text(whole, random.Random(number)))
        try:
            source = open_source(f"array_record:{tmp_path}:train")
            assert source[len(source) - 1].captions == ("a red cat",)
            assert source.length(0, words) < 2**16
            read += 1
        except (ConfigError, BadRecord, OSError):
            pass
    assert 0 < read < 300
    assert tampering.peak_memory() < before + 2**28


def test_a_file_of_lengths_whose_header_claims_more_than_there_is(
    prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / "train-0.lengths.npy"
    manifest, words = tmp_path / MANIFEST, Tokenizer.load(prepared / "tokenizer.json")
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(file.read_bytes().replace(b"(3, 1), }          ", b"(3000000000000, 1)}"))
    assert b"3000000000000" in file.read_bytes()
    after = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(before, after))
    assert open_source(f"array_record:{tmp_path}:train").length(2, words) == 4


@pytest.mark.parametrize("name", ["../x.arrayrecord", "/x.arrayrecord", "..", "a/b.arrayrecord"])
def test_a_prepare_command_removes_nothing_outside_of_its_folder(
    prepared: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    """Shards that a manifest lists, and that are not planned any more, are removed."""
    content = json.loads((prepared / MANIFEST).read_text())
    content["shards"][name] = content["shards"]["test-0.arrayrecord"]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"no manifest of prepared records \(a shard is called"):
        records.finished(folder)


def test_a_damaged_journal_costs_its_shard(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    journal = tmp_path / ".finished"
    journal.mkdir()
    shard = json.loads((prepared / MANIFEST).read_text())["shards"]["train-0.arrayrecord"]
    (journal / "train-0.arrayrecord.json").write_text(json.dumps(shard))
    for number, content in enumerate((b"", b"[]", b"{}", b"[" * 10**5)):
        (journal / f"train-{number + 1}.arrayrecord.json").write_bytes(content)
    assert list(records.finished(tmp_path)) == ["train-0.arrayrecord"]


BOX = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 4, "bbox_h": 3}
ARO = {"image_path": "1.jpg", "true_caption": "a", "false_caption": "b", "relation_name": "on", **BOX}
PAIRS = {"image_0": "a", "image_1": "b", "caption_0": "x y", "caption_1": "y x"}
SEVERAL = [{"image": "1.jpg", "caption": ["two dogs chase a cat on the grass", "a cat"]}]
OWN = {"images": [{"filename": "1.jpg", "filepath": ".", "split": "test", "sentences": [{"raw": "a cat"}]}]}
FORMATS = {
    "sugarcrepe": ("swap_att.json", {"0": {"filename": "1.jpg", "caption": "a", "negative_caption": "b"}}),
    "aro": ("visual_genome_relation.json", [ARO, ARO]),
    "winoground": ("examples.jsonl", PAIRS),
    "karpathy": ("coco_karpathy_test.json", SEVERAL),
}


def spread(folder: pathlib.Path, name: str, content: bytes) -> None:
    for place in ("images/1.jpg", "images/a.png", "images/b.png", "1.jpg", "../1.jpg"):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture())
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "name", "whole"),
    [*((kind, *content) for kind, content in FORMATS.items()), ("karpathy", "dataset_coco.json", OWN)],
)
def test_files_of_captions(kind: str, name: str, whole: object, tmp_path: pathlib.Path) -> None:
    spec = f"{kind}:{tmp_path / 'set'}" + (f"/{name}" if kind == "karpathy" else "")
    spread(tmp_path / "set", name, json.dumps(whole).encode())
    assert open_source(spec)[0].captions
    read = 0
    for number in range(200):
        (tmp_path / "set" / name).write_bytes(tampering.text(whole, random.Random(number)))
        try:
            source = open_source(spec)
            for index in range(len(source)):
                assert all(isinstance(caption, str) for caption in source[index].captions)
            read += 1
        except (ConfigError, images.BadImage, BadRecord):
            pass
    assert 0 < read < 200


@pytest.mark.parametrize("name", ["../1.jpg", "/dev/zero", "images", "x/../../1.jpg"])
def test_no_image_lies_outside_of_the_folder(name: str, tmp_path: pathlib.Path) -> None:
    for kind, entry in (
        ("sugarcrepe", {"0": {"filename": name, "caption": "a", "negative_caption": "b"}}),
        ("aro", [{**ARO, "image_path": name}]),
        ("karpathy", [{"image": name, "caption": ["a"]}]),
    ):
        file = FORMATS[kind][0]
        spread(tmp_path / kind, file, json.dumps(entry).encode())
        spec = f"{kind}:{tmp_path / kind}" + (f"/{file}" if kind == "karpathy" else "")
        with pytest.raises(ConfigError, match=r"leads out of the folder|are not there"):
            open_source(spec)


def test_tags_that_are_none(tmp_path: pathlib.Path) -> None:
    spread(tmp_path / "set", "coco_karpathy_test.json", json.dumps(SEVERAL).encode())
    for tags in (None, 3, [None], [[None, None]], [[[1], [2]]], [["DT"]]):
        (tmp_path / "set" / "coco_karpathy_test.tags.json").write_text(json.dumps(tags))
        with pytest.raises(ConfigError, match="tags"):
            open_source(f"aro:{tmp_path / 'set'}")


def test_files_of_coco(tmp_path: pathlib.Path) -> None:
    whole = {
        "images": [{"id": 1, "file_name": "1.jpg", "license": 2}],
        "annotations": [{"id": 5, "image_id": 1, "caption": "a cat"}],
        "licenses": [{"id": 2, "name": "CC0"}],
    }
    for number in range(300):
        (tmp_path / "x.json").write_bytes(tampering.text(whole, random.Random(number)))
        try:
            entries, _ = coco.read(tmp_path / "x.json", tmp_path)
        except ValueError:
            continue
        assert all(entry.path.resolve().is_relative_to(tmp_path.resolve()) for entry in entries)


def wordpiece() -> tokenizers.Tokenizer:
    model = tokenizers.models.WordPiece({word: id_ for id_, word in enumerate(WORDS)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.decoder = tokenizers.decoders.WordPiece()
    return made


def check_tokenizer(content: bytes) -> bool:
    """Whether it is one; raises where it then breaks the contract."""
    try:
        made = Tokenizer.from_bytes(content)
        ids = made.encode("a red cats ü 🙂", 6)
    except ValueError:
        return False
    assert all(0 <= id_ < made.vocab_size for id_ in ids) and len(ids) <= 6
    assert isinstance(made.decode(ids), str) and len(made.pieces(ids)) == len(ids)
    return True


def test_tokenizers(tmp_path: pathlib.Path) -> None:
    whole = json.loads(wordpiece().to_str())
    model = tokenizer.train(["a red cat", "two cats"], sections.Tokenizer(vocab_size=300)).model_bytes
    before = tampering.peak_memory()
    for make in (
        lambda rng: tampering.text(whole, rng),
        lambda rng: tampering.content(model, rng),
    ):
        made = [check_tokenizer(make(random.Random(number))) for number in range(300)]
        assert 0 < sum(made) < 300
    assert tampering.peak_memory() < before + 2**28


def test_an_id_alone_makes_no_vocabulary() -> None:
    whole = json.loads(wordpiece().to_str())
    whole["model"]["vocab"]["cat"] = 2**31
    with pytest.raises(ValueError, match=r"ids go up to 2,147,483,648; at most 4,194,304"):
        Tokenizer.from_bytes(json.dumps(whole).encode())


def parquet_file(path: pathlib.Path, columns: dict[str, pyarrow.Array]) -> pathlib.Path:
    pyarrow.parquet.write_table(
        pyarrow.table(columns), path, compression="zstd", dictionary_pagesize_limit=2**26, row_group_size=2**20
    )
    return path


def repeated(text: str, rows: int) -> pyarrow.DictionaryArray:
    """A column that says the same in every row: Parquet stores the text once, and the rows in a few bytes."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), [text])


HUGE, ROWS = "x" * 2**22, 2**13  # 32 GiB of captions in some kilobytes


def test_a_text_of_many_rows_is_held_once(tmp_path: pathlib.Path) -> None:
    before = tampering.peak_memory()
    columns = {name: repeated("1", ROWS) for name in recaptions.NEEDED} | {"re_caption": repeated(HUGE, ROWS)}
    captions = recaptions.Captions.open([parquet_file(tmp_path / "0.parquet", columns)])
    assert captions.lookup(["1"])["1"]["re_caption"] == HUGE

    names = pyarrow.array([str(row) for row in range(ROWS)])
    listing = parquet_file(tmp_path / "1.parquet", {"key": names, "status": repeated("success", ROWS)})
    assert list(samples._listed(listing)) == names.to_pylist()
    listing = parquet_file(tmp_path / "2.parquet", {"key": repeated(HUGE, ROWS), "status": repeated("success", ROWS)})
    assert list(samples._listed(listing)) == [HUGE]

    (tmp_path / "1.png").write_bytes(picture())
    parquet_file(tmp_path / "captions.parquet", {"file": repeated("1.png", 9), "caption": repeated(HUGE, 9)})
    assert folder.read_captions(tmp_path, [pathlib.Path("1.png")])[pathlib.Path("1.png")] == (HUGE,) * 9
    parquet_file(tmp_path / "captions.parquet", {"file": repeated("1.png", ROWS), "caption": repeated(HUGE, ROWS)})
    with pytest.raises(ValueError, match=r"1\.png has more than 1,000 captions"):
        folder.read_captions(tmp_path, [pathlib.Path("1.png")])
    assert tampering.peak_memory() < before + 2**28


def test_parquet_that_is_none_or_holds_something_else(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"key": ["1", None, "2"], "status": ["success", "success", "failed"]}
    path = parquet_file(tmp_path / "0.parquet", {name: pyarrow.array(column) for name, column in rows.items()})
    whole, read = path.read_bytes(), 0
    for number in range(200):
        path.write_bytes(tampering.content(whole, random.Random(number)))
        try:
            assert len(samples._listed(path)) < 10
            read += 1
        except BadRecord as fault:
            assert fault.reason in ("damaged parquet", "huge parquet")
    assert 0 < read < 200
    nested = parquet_file(path, {"key": pyarrow.array([[["1"]]]), "status": pyarrow.array(["success"])})
    with pytest.raises(BadRecord, match="damaged parquet"):
        samples._listed(nested)
    twice = pyarrow.Table.from_arrays([pyarrow.array(["1"])] * 3, names=["key", "key", "status"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(BadRecord, match="damaged parquet"):
        samples._listed(path)
    (tmp_path / "1.png").write_bytes(picture())
    twice = pyarrow.Table.from_arrays([pyarrow.array(["1.png"])] * 3, names=["file", "caption", "caption"])
    pyarrow.parquet.write_table(twice, tmp_path / "captions.parquet")
    with pytest.raises(ValueError, match="it has 2 columns caption, not one"):
        folder.read_captions(tmp_path, [pathlib.Path("1.png")])
    path.write_bytes(whole)
    monkeypatch.setattr(samples, "_MOST_LISTED", 2)
    with pytest.raises(BadRecord, match="huge parquet"):
        samples._listed(path)


def replace(pattern: dict[str, str], content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    ("part", "rules", "reason"),
    [
        ("normalizer", [replace({"String": "a"}, "aa")] * 34, "make up to 17,179,869,184 characters of one"),
        ("normalizer", [replace({"Regex": ""}, "a" * 10**6)], "make up to 1,000,001 characters"),
        ("normalizer", [{"type": "Prepend", "prepend": "a" * 10**6}], "make up to 1,000,001 characters"),
        ("decoder", [replace({"String": "a"}, "a" * 10**6)], "make up to 1,000,000 characters"),
        ("pre_tokenizer", [{"type": "Split", "pattern": {"Regex": "a?" * 10**5}}], "expression has 200,000 characters"),
        (
            "normalizer",
            [{"type": "Precompiled", "precompiled_charsmap": "AAAAAGFh" + "YWFh" * 999}],
            "2,999 bytes of a",
        ),
    ],
)
def test_rules_that_make_much_of_a_text(part: str, rules: list, reason: str) -> None:
    whole = json.loads(wordpiece().to_str())
    whole[part] = {"type": "Sequence", f"{part}s": rules}
    with pytest.raises(ValueError, match=reason):
        Tokenizer.from_bytes(json.dumps(whole).encode())


def test_rules_as_real_models_have_them() -> None:
    """Those of CLIP, Llama 2 and ALBERT together."""
    whole = json.loads(wordpiece().to_str())
    rules = [replace({"Regex": r"\s+"}, " "), replace({"Regex": " {2,}"}, " "), replace({"String": "``"}, '"')]
    rules += [{"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581"), {"type": "NFKD"}]
    whole["normalizer"] = {"type": "Sequence", "normalizers": rules}
    assert Tokenizer.from_bytes(json.dumps(whole).encode()).encode("a  cat", 6)[-1] == EOS_ID


def test_a_regular_expression_without_end_and_a_piece_without_bounds() -> None:
    whole = json.loads(wordpiece().to_str())
    split = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    made = Tokenizer.from_bytes(json.dumps({**whole, "pre_tokenizer": split}).encode())
    assert made.encode("a", 8)[-1] == EOS_ID
    with pytest.raises(ConfigError, match=r"cannot encode 'aaaa.*retry-limit"):
        made.encode("a" * 400 + "b", 8)
    whole["model"]["vocab"]["x" * 5_000] = 7
    with pytest.raises(ValueError, match=r"a piece has 5,000 characters; at most 4,096"):
        Tokenizer.from_bytes(json.dumps(whole).encode())


def test_a_sentencepiece_model_that_makes_much_of_a_character() -> None:
    model = tokenizer.train(["a red cat", "two cats"], sections.Tokenizer(vocab_size=300)).model_bytes
    (table,) = sentence_piece._tables(model)
    table += b"a" * 10**6 + b"\0"
    for number in (0x1A, 0x2A):  # of the normalizer, and of what undoes it: another one in place of the first
        rules = b"\x12" + varint(len(table)) + table
        with pytest.raises(ValueError, match=r"makes 1,000,000 bytes of a character"):
            Tokenizer.from_bytes(model + bytes([number]) + varint(len(rules)) + rules)


def varint(value: int) -> bytes:
    """As protocol buffers write numbers: seven bits in a byte, the lowest first."""
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def test_a_model_of_any_size_is_not_read(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "model").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match=r"model: it has 1,099,511,627,776 bytes; at most 134,217,728 are read"):
        Tokenizer.load(tmp_path / "model")
