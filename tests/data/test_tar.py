"""Tars: what lies where, whatever the dialect; bounds that hold against damage and malice."""

import io
import tarfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdc_jax.data.prepare import tar

WANTED = frozenset(("jpg", "txt", "json"))
DIALECTS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def _archive(files, dialect=tarfile.USTAR_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=dialect) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def _read(content):
    file = io.BytesIO(content)
    return [(member.name, member.read(file), member.regular) for member in tar.members(file)]


def _header(name=b"x.jpg", size=0, kind=b"0"):
    member = tarfile.TarInfo(name.decode())
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


FILES = [("a.jpg", b"1" * 512), ("deep/" * 15 + "b.txt", b""), ("c.json", b"x" * 1000)]
LONG = [*FILES, ("long" * 60 + "/é.jpg", b"long"), ("d.txt", b"after")]


@pytest.mark.parametrize(
    ("dialect", "files"),
    [(DIALECTS["ustar"], FILES), (DIALECTS["gnu"], LONG), (DIALECTS["pax"], LONG)],
    ids=DIALECTS,
)
def test_members_are_those_of_tarfile(dialect, files):
    content = _archive(files, dialect)
    assert _read(content) == [(name, data, True) for name, data in files]
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert [(m.offset_data, m.size) for m in archive] == [
            (m.start, m.size) for m in tar.members(io.BytesIO(content))
        ]


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1024, 1024 + 511])
def test_a_tar_cut_anywhere_is_cut_short(keep):
    content = _archive(FILES[:1] + FILES[2:])  # header, 512 bytes, header, 1000 bytes
    seen = []
    with pytest.raises(tar.BadTar, match="tar cut short"):
        for member in tar.members(io.BytesIO(content[:keep])):
            seen.append(member.name)
    assert seen == (["a.jpg"] if keep >= 1024 else [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>" * 200, "no tar archive"),
        (_archive(FILES)[:1024] + b"\1" * 1024, "damaged tar"),
        (_header(size=2**40, kind=b"x"), "tar header too large"),
        (_header(size=2**40, kind=b"L"), "tar header too large"),
        (_header(size=2**40) + bytes(2000), "tar cut short"),
        (_header(size=5, kind=b"x") + b"99 x=1\n".ljust(512, b"\0") + bytes(1024), "damaged tar"),
        (_header(size=3, kind=b"x") + b"0 =".ljust(512, b"\0") + bytes(1024), "damaged tar"),
        (_header(size=11, kind=b"x") + b"11 size=-1\n".ljust(512, b"\0") + _header() + bytes(1024), "damaged tar"),
    ],
)
def test_damage_ends_the_archive_with_its_reason(content, reason):
    with pytest.raises(tar.BadTar, match=reason):
        list(tar.members(io.BytesIO(content)))


@pytest.mark.parametrize("zeros", [512, 1024, 2**21], ids=str)
def test_what_follows_zeros_is_not_lost_in_silence(zeros):
    """A hole in a download; archives that were put together."""
    whole = _archive(FILES)
    end = whole.index(_header(b"c.json", 1000)[:100])
    for content in (whole[:end] + bytes(zeros) + whole[end:], whole[:end] + bytes(zeros) + whole):
        seen = []
        with pytest.raises(tar.BadTar, match="damaged tar"):
            for member in tar.members(io.BytesIO(content)):
                seen.append(member.name)
        assert seen == [name for name, _ in FILES[:2]]
    if zeros <= 2**20:  # as padding may be
        assert _read(whole + bytes(zeros)) == [(name, data, True) for name, data in FILES]
    else:
        with pytest.raises(tar.BadTar, match="damaged tar"):
            _read(whole + bytes(zeros))


def test_an_archive_ends_with_two_blocks_of_zeros():
    whole = _archive(FILES[:1])
    assert len(_read(whole[: 4 * 512])) == 1
    with pytest.raises(tar.BadTar, match="tar cut short"):
        _read(whole[: 3 * 512])


def test_a_negative_size_is_damage():
    header = bytearray(_header())
    header[124:136] = b"-0000000777\0"
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * 32)
    with pytest.raises(tar.BadTar, match="damaged tar"):
        list(tar.members(io.BytesIO(bytes(header) + bytes(1024))))


def test_links_directories_and_sparse_files_are_not_regular():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE), ("c", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("GNUSparseFile.0/d.jpg")
        member.pax_headers, member.size = {"GNU.sparse.major": "1", "GNU.sparse.name": "d.jpg"}, 4
        archive.addfile(member, io.BytesIO(b"data"))
    sparse = bytearray(_header(b"e.jpg", 4, b"S"))
    sparse[482] = 1  # one more block of its map follows, and says that it is the last one
    sparse[148:156] = b"%06o\0 " % (sum(sparse) - sum(sparse[148:156]) + 8 * 32)
    content = stream.getvalue()[: archive.offset - 1024] + bytes(sparse) + bytes(512) + b"data".ljust(512, b"\0")
    content += _archive([("f.jpg", b"regular")])
    found = _read(content)
    assert [name for name, _, regular in found if not regular] == ["a.jpg", "b.jpg", "c/", "d.jpg", "e.jpg"]
    assert found[-1] == ("f.jpg", b"regular", True)


def test_a_hostile_tar_costs_no_memory(tmp_path):
    path = tmp_path / "hostile.tar"
    with path.open("wb") as file:
        for number in range(200):
            record = b"%d comment%d=" % (tar.MAX_HEADER, number)
            file.write(_header(size=tar.MAX_HEADER, kind=b"x"))
            file.write(record.ljust(tar.MAX_HEADER - 1, b"x") + b"\n")
        file.write(_header(size=2**35))
        file.seek(2**35, 1)
        file.write(bytes(1024))
    tracemalloc.start()
    with path.open("rb") as file:
        assert [(member.name, member.size) for member in tar.members(file)] == [("x.jpg", 2**35)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * tar.MAX_HEADER


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_random_damage_never_leads_outside_of_the_file(data):
    content = bytearray(_archive(LONG, data.draw(st.sampled_from(list(DIALECTS.values())[1:]))))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    file, length = io.BytesIO(bytes(content)), len(content)
    try:
        for member in tar.members(file):
            assert 0 <= member.start <= member.start + member.size <= length
            assert len(member.read(file)) == member.size
    except tar.BadTar:
        pass


def _samples(files):
    return [(s.key, list(s.members), s.repeated) for s in tar.samples(io.BytesIO(_archive(files)), WANTED)]


def test_samples_are_runs_of_one_key():
    files = [("a.jpg", b""), ("a.txt", b""), ("README", b""), ("a.cls", b""), ("x/a.JPG", b""), ("x/a.json", b"")]
    assert _samples(files) == [("a", ["jpg", "txt"], False), ("x/a", ["jpg", "json"], False)]
    assert _samples([("a.jpg", b""), ("b.jpg", b""), ("a.txt", b"")]) == [
        ("a", ["jpg"], False),
        ("b", ["jpg"], False),
        ("a", ["txt"], False),
    ]
    assert _samples([("a.jpg", b"1"), ("a.jpg", b"2")]) == [("a", ["jpg"], True)]
    assert _samples([(".hidden.jpg", b""), ("dir.d/c.v1.jpg", b""), ("b", b"")]) == [("dir.d/c.v1", ["jpg"], False)]


def test_files_that_share_more_than_their_key_are_samples_of_their_own():
    files = [("d.d/c.v2.jpg", b""), ("d.d/c.v2.TXT", b""), ("e.v1.json", b""), ("e.v2.jpg", b""), (".f.a.jpg", b"")]
    found = tar.samples(io.BytesIO(_archive([*files, (".f.a.txt", b"")])), WANTED)
    assert [(sample.key, sample.within, list(sample.members)) for sample in found] == [
        ("d.d/c.v2", "d.d/c", ["jpg", "txt"]),
        ("e.v1", "e", ["json"]),
        ("e.v2", "e", ["jpg"]),
    ]
    files = [("a.jpg", b""), ("z.v1.jpg", b""), ("a.mask.jpg", b""), ("a.mask.json", b""), ("a.txt", b"")]
    assert sorted(_samples(files)) == [
        ("a", ["jpg", "txt"], False),
        ("a.mask", ["jpg", "json"], False),
        ("z.v1", ["jpg"], False),
    ]


def test_the_sample_at_a_cut_is_not_given():
    content = _archive([("a.jpg", b"1"), ("a.txt", b"2"), ("b.jpg", b"3"), ("b.txt", b"4")])
    seen = []
    with pytest.raises(tar.BadTar):
        for sample in tar.samples(io.BytesIO(content[: 7 * 512 - 100]), WANTED):
            seen.append(sample.key)
    assert seen == ["a"]
