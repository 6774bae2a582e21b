"""Files: refused unless their checksum is right, written whole or not at all, by several writers at once."""

import errno
import hashlib
from pathlib import Path

import pytest

from diffusion_lib import files
from diffusion_lib.checkpoints import CheckpointError
from diffusion_lib.data import DataError
from diffusion_lib.files import FileError, checked, pieces, read_checked, remove_parts, write_atomically
from diffusion_lib.pretrained import WeightsError

# ---- read ----


def test_one_altered_byte_is_refused_by_name_and_with_the_error_asked_for(tmp_path: Path):
    path, content = tmp_path / "f", b"some content"
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    assert read_checked(path, sha256) == content == checked("https://somewhere", content, sha256)
    path.write_bytes(b"Some content")
    other = hashlib.sha256(b"Some content").hexdigest()
    words = f"f: expected SHA-256 {sha256}, found {other}: altered or damaged"
    for error in (FileError, DataError):
        with pytest.raises(error, match=words) as caught:
            read_checked(path, sha256, error)
        assert type(caught.value) is error
    with pytest.raises(FileError, match="^https://somewhere: expected SHA-256"):
        checked("https://somewhere", b"", sha256)
    with pytest.raises(FileNotFoundError, match="none"):
        read_checked(tmp_path / "none", sha256)


def test_what_goes_wrong_with_any_file_is_a_file_error():
    assert all(issubclass(error, FileError) for error in (DataError, WeightsError, CheckpointError))


# ---- write ----


def test_a_full_disk_leaves_the_good_file_and_makes_room(tmp_path: Path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_atomically(path, b"good")

    def full(content: bytes):
        yield content[:3]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "pieces", full)
        with pytest.raises(OSError, match="No space left on device: '.*checkpoint'"):
            write_atomically(path, b"better")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"checkpoint": b"good"}
    write_atomically(path, b"better")
    assert path.read_bytes() == b"better"


def test_an_interrupted_write_leaves_the_good_file_and_the_next_one_succeeds(tmp_path: Path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_atomically(path, b"good")

    def interrupted(content: bytes):
        yield content[:3]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "pieces", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"better")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"checkpoint": b"good"}
    write_atomically(path, b"b")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"checkpoint": b"b"}


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path, monkeypatch):
    """The second begins and ends while the first is between two pieces."""
    path, original = tmp_path / "f", files.pieces

    def interleaved(content: bytes):
        yield content[:2]
        monkeypatch.setattr(files, "pieces", original)
        write_atomically(path, b"second")
        assert path.read_bytes() == b"second"
        yield content[2:]

    monkeypatch.setattr(files, "pieces", interleaved)
    write_atomically(path, b"first")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"f": b"first"}


def test_parts_of_a_killed_writer_are_removed_and_nothing_else(tmp_path: Path, monkeypatch):
    """Killed is what no `finally` can follow: here the part is kept from being removed."""
    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "unlink", lambda self, missing_ok=False: None)
        patch.setattr(files.os, "replace", lambda *paths: None)
        write_atomically(tmp_path / "f", b"half")
    (left,) = tmp_path.glob("f.*.part")
    for name in ("f", "f.part", "g.12345678.part"):
        (tmp_path / name).write_bytes(b"")
    remove_parts(tmp_path / "f")
    assert not left.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["f", "f.part", "g.12345678.part"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file/checkpoint"):
        write_atomically(tmp_path / "file" / "checkpoint", b"x")
    with pytest.raises(FileNotFoundError, match="nowhere/checkpoint"):
        write_atomically(tmp_path / "nowhere" / "checkpoint", b"x")


def test_pieces_are_the_whole_content_in_order():
    content = bytes(range(256)) * 9
    for size in (1, 7, 256, 5000):
        assert b"".join(pieces(content, size)) == content
    assert list(pieces(b"")) == []
