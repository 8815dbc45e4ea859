"""img2dataset's tars become records: captions, metadata, columns, sizes; every damage is counted and named."""

import hashlib
import io
import json
import tarfile

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.config import sections
from mdc_jax.data import images, tokenizer
from mdc_jax.data.prepare import records
from mdc_jax.data.prepare.encode import Encoding
from mdc_jax.data.prepare.example import Example
from mdc_jax.data.prepare.lengths import Lengths
from mdc_jax.data.prepare.manifest import Manifest
from mdc_jax.data.prepare.samples import TarPlan, advice
from mdc_jax.data.sources import open_source
from mdc_jax.data.texts import MAX_CAPTION


def picture(width=40, height=30, kind="JPEG", shade=100):
    file = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (shade, 20, 60)).save(file, kind)
    return file.getvalue()


def write_tar(path, samples, listed=None):
    """`samples`: (key, {extension: bytes}); `listed`: (key, status) of the parquet file beside the tar."""
    with tarfile.open(path, "w") as archive:
        for key, members in samples:
            for extension, data in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    if listed is not None:
        keys, status = zip(*listed, strict=True)
        pyarrow.parquet.write_table(pyarrow.table({"key": keys, "status": status}), path.with_suffix(".parquet"))
    return path


def sample(key, caption="a caption", image=None, **about):
    about = {"key": key, "url": f"https://example.org/{key}", **about}
    return key, {"jpg": image or picture(), "txt": caption.encode(), "json": json.dumps(about).encode()}


def _files(key, members):
    return [(f"{key}.{extension}", content) for extension, content in members.items()]


def prepare(out, *plans, **more):
    manifest = Manifest("test", "CC0", "", {}, {})
    return records.write_all(out, manifest, plans, **more)


def examples(plan):
    return [outcome for outcome in plan.examples() if isinstance(outcome, Example)]


def test_a_tar_becomes_a_shard(tmp_path):
    jpeg = picture()
    tar = write_tar(tmp_path / "00000.tar", [sample("000000001", " A dog. \n", jpeg, width=40), sample("000000002")])
    (example, other) = examples(TarPlan(tar))
    assert example.image == jpeg
    assert example.captions == ("A dog.",)
    assert example.columns == {}
    assert example.about == {"key": "000000001", "url": "https://example.org/000000001", "width": 40}
    assert other.captions == ("a caption",)

    manifest = prepare(tmp_path / "out", TarPlan(tar))
    assert list(manifest.shards) == ["train-00000.arrayrecord"]
    assert manifest.counts() == {"train": 2}
    source = open_source(f"array_record:{tmp_path / 'out'}:train")
    assert source[0].image == jpeg
    assert source[0].captions == ("A dog.",)


def test_columns_are_kept_apart_by_name(tmp_path):
    tar = write_tar(
        tmp_path / "0.tar",
        [
            sample("a", "own", re="described", number=3),
            sample("b", "own too", re=None),
            sample("c", "", re="only the other"),
        ],
    )
    plan = TarPlan(tar, columns=("re", "caption", "absent"))
    first, second = examples(plan)  # b lacks the default column
    assert first.captions == ("described",)
    assert first.columns == {"re": ("described",), "caption": ("own",), "absent": ()}
    assert first.about == {"key": "a", "url": "https://example.org/a", "number": 3}
    assert second.captions == ("only the other",)
    assert second.columns["caption"] == ()
    with pytest.raises(ValueError, match="no example has a text of column absent"):
        prepare(tmp_path / "mistyped", plan, lengths=Lengths(columns=plan.columns))

    manifest = prepare(
        tmp_path / "out",
        TarPlan(tar, columns=("caption", "re")),
        lengths=Lengths(columns=("caption", "re")),
    )
    assert manifest.all_dropped() == {"empty caption": 1}
    assert manifest.lengths == {"unit": "words", "columns": ["caption", "re"]}
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "train-0.lengths.npy"), np.array([[1, 1], [2, 0]]))
    record = open_source(f"array_record:{tmp_path / 'out'}:train")[0]
    assert record.captions == ("own",)
    assert record.columns == {"caption": ("own",), "re": ("described",)}


def test_lengths_in_tokens_say_of_which_model(tmp_path):
    model = tokenizer.train([f"word{n} other{n}" for n in range(50)], sections.Tokenizer(vocab_size=300))
    (tmp_path / "model").write_bytes(model.model_bytes)
    tar = write_tar(tmp_path / "0.tar", [sample("a", "word1 other2 word3"), sample("b", "word9")])
    manifest = prepare(tmp_path / "out", TarPlan(tar), lengths=Lengths(str(tmp_path / "model")))
    assert manifest.lengths == {"unit": "tokens", "columns": ["caption"], "tokenizer": model.hash}
    lengths = np.load(tmp_path / "out" / "train-0.lengths.npy", allow_pickle=False)
    assert lengths.dtype == np.uint16
    assert lengths[:, 0].tolist() == [len(model.encode("word1 other2 word3", 999)), len(model.encode("word9", 999))]
    content = (tmp_path / "out" / "train-0.lengths.npy").read_bytes()
    assert manifest.shards["train-0.arrayrecord"].lengths_sha256 == hashlib.sha256(content).hexdigest()


def test_large_images_are_made_smaller_and_small_ones_kept(tmp_path):
    small, png = picture(40, 30), picture(900, 600, "PNG")
    tar = write_tar(tmp_path / "0.tar", [sample("a", image=small), sample("b", image=png)])
    kept, shrunk = examples(TarPlan(tar, encoding=Encoding(short_side=200)))
    assert kept.image == small
    assert shrunk.image[:2] == b"\xff\xd8"
    pixels = images.decode(shrunk.image)
    assert pixels.shape == (200, 300, 3)
    assert np.abs(pixels.astype(int) - (100, 20, 60)).max() < 4
    assert examples(TarPlan(tar))[1].image == png


def test_an_image_named_as_another_kind_is_known_by_its_content(tmp_path):
    png = picture(kind="PNG")
    assert examples(TarPlan(write_tar(tmp_path / "0.tar", [sample("a", image=png)])))[0].image == png


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"jpg": picture()[:-20]}, "damaged JPEG"),
        ({"jpg": b""}, "no bytes"),
        ({"jpg": b"<html>"}, "unknown format"),
        ({"jpg": None}, "no image member"),
        ({"png": picture()}, "member twice"),
        ({"jpg": bytes(2**26 + 1)}, "huge image"),
        ({"txt": None}, "no caption member"),
        ({"txt": b"\n"}, "empty caption"),
        ({"txt": b" . , !"}, "empty caption"),
        ({"txt": b"x" * (MAX_CAPTION + 1)}, "huge caption"),
        ({"txt": b"x" * 2**20}, "huge caption"),
        ({"txt": b"\xff"}, "caption not UTF-8"),
        ({"json": b"{"}, "metadata no JSON"),
        ({"json": b"[1]"}, "metadata no JSON"),
        ({"json": b"\xff\xfe\xff"}, "metadata no JSON"),
        ({"json": b"[" * 90_000}, "metadata no JSON"),
        ({"json": b'{"n": ' + b"9" * 5_000 + b"}"}, "metadata no JSON"),
        ({"json": b'{"n": "' + b"9" * 200_000 + b'"}'}, "huge metadata"),
        ({"json": b'{"half": "\\ud800"}'}, "text not UTF-8"),
    ],
)
def test_damage_is_dropped_with_its_reason_and_name(tmp_path, change, reason):
    key, members = sample("000000002")
    damaged = {name: data for name, data in (members | change).items() if data is not None}
    tar = write_tar(tmp_path / "00000.tar", [sample("000000001"), (key, damaged), sample("000000003")])
    manifest = prepare(tmp_path / "out", TarPlan(tar))
    assert manifest.all_dropped() == {reason: 1}
    assert manifest.counts() == {"train": 2}
    (named,) = manifest.shards["train-00000.arrayrecord"].named.values()
    assert "000000002" in named[0]


def test_metadata_may_be_missing(tmp_path):
    key, members = sample("a")
    del members["json"]
    assert examples(TarPlan(write_tar(tmp_path / "0.tar", [(key, members)])))[0].about == {"key": "a"}


def test_what_a_cut_tar_lost_is_counted_by_the_parquet_beside_it(tmp_path):
    keys = [f"{n:04d}" for n in range(10)]
    listed = [(key, "success") for key in keys] + [("0010", "failed_to_download")]
    tar = write_tar(tmp_path / "0.tar", [sample(key) for key in keys], listed)
    assert prepare(tmp_path / "whole", TarPlan(tar)).all_dropped() == {}
    content = tar.read_bytes()
    tar.write_bytes(content[: content.index(b"0004.txt") + 600])
    manifest = prepare(tmp_path / "cut", TarPlan(tar))
    assert manifest.all_dropped() == {"in the parquet, not in the tar": 6, "tar cut short": 1}
    assert manifest.counts() == {"train": 4}
    assert manifest.shards["train-0.arrayrecord"].named["tar cut short"] == ["0.tar"]

    tar.with_suffix(".parquet").write_bytes(b"PAR1nothing")
    assert prepare(tmp_path / "damaged", TarPlan(tar)).all_dropped() == {"damaged parquet": 1, "tar cut short": 1}


def test_folders_within_a_tar_are_no_part_of_the_keys_in_the_parquet(tmp_path):
    listed = [("1", "success"), ("2", "success"), ("3", "success")]
    tar = write_tar(tmp_path / "0.tar", [sample("./1"), sample("deep/2")], listed)
    assert prepare(tmp_path / "out", TarPlan(tar)).all_dropped() == {"in the parquet, not in the tar": 1}


def test_a_table_whose_keys_are_numbers_is_no_list_of_the_tar(tmp_path):
    tar = write_tar(tmp_path / "0.tar", [sample("001"), sample("002")], [(1, "success"), (2, "success")])
    assert prepare(tmp_path / "out", TarPlan(tar)).all_dropped() == {}


@pytest.mark.parametrize("name", ["photo.00001", "notes"])
def test_a_tar_of_other_files_is_no_success(tmp_path, name):
    """WebDataset's keys end at the first dot."""
    files = {"jpg": picture(), "txt": b"a caption"} if "photo" in name else {"csv": b"1,2", "pickle": b"x"}
    tar = write_tar(tmp_path / "0.tar", [(name, files)])
    with pytest.raises(records.TooManyDropped, match=rf"1 x no file .* KEY\.jpg.*, as 0\.tar {name}"):
        prepare(tmp_path / "out", TarPlan(tar))
    others = write_tar(tmp_path / "1.tar", [sample("a")])
    manifest = prepare(tmp_path / "out", TarPlan(tar), TarPlan(others))
    assert (manifest.counts(), sum(manifest.all_dropped().values())) == ({"train": 1}, 1)


def test_keys_with_a_dot_among_good_ones_are_counted(tmp_path):
    mask = {"mask.png": picture(kind="PNG"), "mask.json": b"{}"}  # of a, and of b, further members
    key, members = sample("b")
    samples = [sample("a"), ("a", mask), sample("c.v2"), sample("d.v1"), sample("d.v2"), (key, mask | members)]
    manifest = prepare(tmp_path / "out", TarPlan(write_tar(tmp_path / "0.tar", samples)))
    assert manifest.counts() == {"train": 2}
    assert manifest.all_dropped() == {"no file called KEY.jpg, since a KEY ends at its first dot": 3}
    assert [*manifest.shards["train-0.arrayrecord"].named.values()] == [["0.tar c.v2", "0.tar d.v1", "0.tar d.v2"]]


def test_keys_with_a_dot_are_counted_where_their_files_are_no_neighbours_too(tmp_path):
    files = [sample("a"), *((f"c.{n}", {"jpg": picture()}) for n in range(3))]
    files += [(f"c.{n}", {"txt": b"a caption"}) for n in range(3)]
    manifest = prepare(tmp_path / "out", TarPlan(write_tar(tmp_path / "0.tar", files)))
    assert manifest.all_dropped() == {"no file called KEY.jpg, since a KEY ends at its first dot": 3}


def test_names_that_are_no_utf_8_stay_different(tmp_path):
    """As by tar on a machine with another encoding: a caption never comes to the image of another name."""
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name, content in (("caf\xe9.jpg", picture()), ("caf\xe8.txt", b"of another"), *_files(*sample("ok"))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    manifest = prepare(tmp_path / "out", TarPlan(tmp_path / "0.tar"))
    assert manifest.counts() == {"train": 1}
    assert manifest.all_dropped() == {"no caption member": 1, "no image member": 1}
    assert manifest.shards["train-0.arrayrecord"].named["no caption member"] == [r"0.tar caf\xe9"]


def test_of_a_key_that_comes_again_the_first_is_kept(tmp_path):
    samples = [sample("a", "first"), sample("x/a"), sample("b", ""), sample("a", "second"), sample("c"), sample("a")]
    tar = write_tar(tmp_path / "0.tar", [*samples, sample("b", "whole")], [("a", "success"), ("b", "success")])
    manifest = prepare(tmp_path / "out", TarPlan(tar))
    assert manifest.all_dropped() == {"empty caption": 1, "key twice": 2}
    source = open_source(f"array_record:{tmp_path / 'out'}:train")
    assert [source[index].captions[0] for index in range(len(source))] == ["first", "a caption", "a caption", "whole"]
    assert prepare(tmp_path / "again", TarPlan(tar)).shards == manifest.shards


@pytest.mark.parametrize(("images", "texts", "apart"), [(10, 10, True), (10, 6, True), (10, 2, False), (0, 0, False)])
def test_keys_whose_files_are_no_neighbours_are_explained(tmp_path, images, texts, apart):
    members = sample("")[1]
    halves = [(f"{n}", {"jpg": members["jpg"]}) for n in range(images)]
    halves += [(f"{n}", {"txt": members["txt"]}) for n in range(texts)]
    tar = write_tar(tmp_path / "0.tar", [*halves, sample("good"), sample("bad", "")])
    with pytest.raises(records.TooManyDropped) as caught:
        prepare(tmp_path / "out", TarPlan(tar), max_dropped=0.1)
    assert caught.value.dropped.get("no caption member", 0) == images
    assert caught.value.dropped.get("no image member", 0) == texts
    assert ("must be neighbours" in advice(caught.value.dropped)) == apart


def test_a_tar_without_members_is_no_fault_but_no_data_either(tmp_path):
    tar = write_tar(tmp_path / "0.tar", [])
    with pytest.raises(records.TooManyDropped, match="it holds no example"):
        prepare(tmp_path / "out", TarPlan(tar))


def test_an_empty_file_counts_as_one_fault(tmp_path):
    (tmp_path / "0.tar").touch()
    with pytest.raises(records.TooManyDropped, match="nothing of this data can be used: 1 x tar cut short"):
        prepare(tmp_path / "out", TarPlan(tmp_path / "0.tar"))


def test_a_tar_of_nothing_but_damage_is_an_empty_shard(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"")
    (tmp_path / "1.tar").write_bytes(b"<html>" * 1000)
    write_tar(tmp_path / "2.tar", [sample("a")])
    manifest = prepare(tmp_path / "out", *[TarPlan(tmp_path / f"{n}.tar") for n in range(3)])
    assert manifest.all_dropped() == {"no tar archive": 1, "tar cut short": 1}
    source = open_source(f"array_record:{tmp_path / 'out'}:train")
    assert len(source) == 1
    assert source[0].captions == ("a caption",)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_random_damage_drops_examples_and_never_crashes(tmp_path_factory, data):
    tar = tmp_path_factory.mktemp("damage") / "0.tar"
    content = bytearray(write_tar(tar, [sample(f"{n}", f"caption {n}") for n in range(4)]).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 600))] = data.draw(st.binary(max_size=600))
    tar.write_bytes(content)
    for example in examples(TarPlan(tar)):
        images.decode(example.image)
        assert example.captions[0].strip()
        assert Example.unpack(example.pack()) == example


def test_names_within_a_tar_are_labels_and_never_paths(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    samples = [sample(f"../../{'x' * 200}\x1b[31m"), sample("/etc/cron"), sample("../up", "")]
    manifest = prepare(home / "out", TarPlan(write_tar(tmp_path / "0.tar", samples)))
    assert manifest.counts()["train"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"home", "0.tar"}
    assert sorted(path.name for path in (home / "out").iterdir()) == [
        "manifest.json",
        "train-0.arrayrecord",
        "train-0.lengths.npy",
    ]
    assert manifest.shards["train-0.arrayrecord"].named == {"empty caption": ["0.tar ../up"]}


def test_another_tar_of_the_same_size_is_converted_anew(tmp_path):
    tar = write_tar(tmp_path / "0.tar", [sample("a", "one")])
    prepare(tmp_path / "out", TarPlan(tar))
    write_tar(tar, [sample("a", "two")])
    prepare(tmp_path / "out", TarPlan(tar))
    assert open_source(f"array_record:{tmp_path / 'out'}:train")[0].captions == ("two",)


def test_too_much_damage_stops_the_run_with_its_reasons(tmp_path):
    samples = [sample(f"{n}", "" if n < 3 else "fine") for n in range(10)]
    tar = write_tar(tmp_path / "0.tar", samples)
    with pytest.raises(records.TooManyDropped, match=r"3 of 10 .*3 x empty caption.* 0\.2.*--max_bad_share"):
        prepare(tmp_path / "out", TarPlan(tar), max_dropped=0.2)
    with pytest.raises(ValueError, match="not finished"):
        open_source(f"array_record:{tmp_path / 'out'}:train")
    assert prepare(tmp_path / "out", TarPlan(tar), max_dropped=0.3).counts() == {"train": 7}


@pytest.mark.parametrize("order", [1, -1])
def test_whether_damage_is_too_much_does_not_depend_on_the_order_of_tars(tmp_path, order, monkeypatch):
    members = [[sample(f"{tar}{n}", "" if n < bad else "fine") for n in range(20)] for tar, bad in enumerate((3, 0))]
    plans = [TarPlan(write_tar(tmp_path / f"{tar}.tar", some)) for tar, some in enumerate(members)][::order]
    assert prepare(tmp_path / "out", *plans, max_dropped=0.1).counts() == {"train": 37}
    done = []

    def counted(tasks):
        for task, shard in records.in_process(tasks):
            done.append(task.plan.name)
            yield task, shard

    monkeypatch.setattr(records, "_JUDGE_AFTER", 10)
    more = [TarPlan(write_tar(tmp_path / f"{tar}.tar", members[1])) for tar in range(2, 6)]
    with pytest.raises(records.TooManyDropped, match=r"3 of 20 .*more than the allowed share of 0.01"):
        prepare(tmp_path / "few", TarPlan(tmp_path / "0.tar"), *more, max_dropped=0.01, run=counted)
    assert done == ["train-0.arrayrecord"]  # it is too much already, whatever comes
    none = [TarPlan(write_tar(tmp_path / f"{tar}.tar", [sample(f"{n}", "") for n in range(20)])) for tar in range(20)]
    done.clear()
    with pytest.raises(records.TooManyDropped, match="20 of 20 "):
        prepare(tmp_path / "none", *none, max_dropped=0.1, run=counted)
    assert len(done) == 1
