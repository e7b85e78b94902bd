"""The cache of decoded recordings: exact, bounded, and never in the way."""

import errno
import logging
import os
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

from echo.config import DataSettings
from echo.data import cache as cache_module
from echo.data.audio import AudioArray, AudioBytes, AudioFile, AudioSlice
from echo.data.build import build_corpus
from echo.data.cache import AudioCache, CachedAudio, read_entry
from echo.data.prepare.shard import write_shards
from echo.data.sources import Columns, read_source
from echo.data.sources.datasets import DatasetAudio, dataset_rows
from echo.data.sources.files import Recordings
from echo.data.sources.row import utterances
from echo.support.errors import ConfigError, DataError
from tests.data.recordings import tone, write, write_manifest

SECOND = 4 + 4 * 16_000  # bytes of an entry


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """How often each recording was decoded."""
    counts: Counter = Counter()
    for kind in (AudioFile, AudioBytes):
        load = kind.load

        def counting(self, load=load):
            counts[self] += 1
            return load(self)

        monkeypatch.setattr(kind, "load", counting)
    return counts


def recordings(folder: Path) -> list[AudioFile]:
    """Of several formats and rates; what an Opus decodes to is no whole number of 16 bits."""
    return [
        AudioFile(write(folder / "a.opus")),
        AudioFile(write(folder / "b.ogg", rate=44_100)),
        AudioFile(write(folder / "c.flac", tone(rate=8000, channels=2), 8000)),
        AudioFile(write(folder / "d.wav")),
    ]


def test_samples_are_the_decoded_ones_to_the_bit_and_decoded_once(tmp_path, decoded):
    files = recordings(tmp_path)
    sources = [*files, *(AudioBytes(f.path.read_bytes(), f.path.name) for f in files)]
    wanted = [source.load() for source in sources]
    decoded.clear()
    for _ in range(3):
        cache = AudioCache(tmp_path / "cache", 10**9)  # as another run would open it
        for source, samples in zip(sources, wanted, strict=True):
            found = CachedAudio(source, cache).load()
            assert found.dtype == torch.float32
            assert torch.equal(found, samples)
            found.zero_()  # whoever has them may change them
    assert list(decoded.values()) == [1] * 8


def test_a_table_s_recordings_are_known_by_their_bytes(tmp_path, decoded):
    from datasets import Dataset

    content = write(tmp_path / "a.opus").read_bytes()
    rows = {"audio": [{"bytes": content, "path": None}] * 2, "text": ["one", "two"]}
    files = Recordings((tmp_path,), (tmp_path,))
    found = dataset_rows(Dataset.from_dict(rows), "rows", Columns(), files)
    cache = AudioCache(tmp_path / "cache", 10**9)
    rows = [*utterances(found)]
    assert all(isinstance(u.audio, DatasetAudio) for u in rows)
    first, second = (u.audio.load() for u in cache.over(rows))
    assert torch.equal(first, second)
    assert sum(decoded.values()) == 1


def test_recordings_of_shards_are_kept_as_well(tmp_path, decoded):
    write(tmp_path / "a.opus")
    manifest = write_manifest(tmp_path / "m.jsonl", {"audio_filepath": "a.opus", "text": "one"})
    write_shards(read_source(manifest), tmp_path / "shards", "opus")
    (utterance,) = read_source(str(tmp_path / "shards"))
    wanted = utterance.audio.load()
    decoded.clear()
    cache = AudioCache(tmp_path / "cache", 10**9)
    (kept,) = cache.over([utterance])
    assert all(torch.equal(kept.audio.load(), wanted) for _ in range(3))
    assert sum(decoded.values()) == 1


def test_samples_that_need_no_decoding_are_not_kept(tmp_path):
    cache = AudioCache(tmp_path / "cache", 10**9)
    samples = np.ones(100, dtype=np.float32)
    assert CachedAudio(AudioArray(samples, 16_000, "a"), cache).load().tolist() == [1] * 100
    assert entries(tmp_path) == []


def test_a_changed_recording_is_decoded_anew(tmp_path, decoded):
    path = write(tmp_path / "a.wav")
    audio = CachedAudio(AudioFile(path), AudioCache(tmp_path / "cache", 10**9))
    first = audio.load()
    write(path, 0.5 * tone())
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**6))  # where clocks are coarse
    assert torch.allclose(audio.load(), 0.5 * first, atol=1e-4)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.wav: no such recording"):
        audio.load()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "folder"])
def test_a_damaged_entry_is_made_again(tmp_path, decoded, damage):
    audio = AudioFile(write(tmp_path / "a.opus"))
    cache = AudioCache(tmp_path / "cache", 10**9)
    wanted = cache.load(audio)
    (entry,) = entries(cache.folder)
    content = entry.read_bytes()
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        entry.write_bytes({"cut": content[:-3000], "flip": flipped, "empty": b""}[damage])
    assert torch.equal(cache.load(audio), wanted)
    assert decoded[audio] == 2
    if damage != "folder":
        assert entry.read_bytes() == content
        cache.load(audio)
        assert decoded[audio] == 2


def test_what_was_longest_not_used_goes_first(tmp_path, decoded):
    files = [AudioFile(write(tmp_path / f"{i}.wav", tone() * i / 10)) for i in range(9)]
    cache = AudioCache(tmp_path / "cache", 5 * SECOND)
    (stranger := cache.folder / "ab" / "mine.wav").parent.mkdir()
    stranger.write_bytes(bytes(10 * SECOND))
    for file in files:
        cache.load(file)
        cache.load(files[0])  # in use all the time
        kept = [path for path in entries(cache.folder) if path != stranger]
        assert sum(path.stat().st_size for path in kept) <= 5 * SECOND
        kept.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for age, path in enumerate(kept):
            os.utime(path, (1e9 - age, 1e9 - age))  # where clocks are coarse
    for file in (files[0], *files[-3:]):
        cache.load(file)
    assert set(decoded.values()) == {1}
    cache.load(files[1])
    assert decoded[files[1]] == 2
    AudioCache(tmp_path / "cache", SECOND)  # a later run that allows less
    assert len(entries(cache.folder)) == 1
    assert stranger.exists()


def test_a_full_disk_only_ends_the_keeping(tmp_path, monkeypatch, caplog, decoded):
    files = recordings(tmp_path)
    wanted = [file.load() for file in files]
    cache = AudioCache(tmp_path / "cache", 10**9)
    cache.load(files[0])
    decoded.clear()

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        found = [cache.load(file) for file in (*files, *files)]
    assert all(map(torch.equal, found, (*wanted, *wanted)))
    assert len(caplog.records) == 1
    assert "cannot be written (No space left on device)" in caplog.text
    assert len(entries(cache.folder)) == 1
    assert decoded[files[0]] == 0  # what is there is still used


def test_several_may_write_the_same_entry_at_once(tmp_path, monkeypatch):
    """As workers and ranks do: each its own file, and the last to finish is kept."""
    audio = AudioFile(write(tmp_path / "a.opus"))
    wanted = audio.load()
    caches = [AudioCache(tmp_path / "cache", 10**9) for _ in range(4)]
    all_written = Barrier(4, timeout=10)
    replace = Path.replace

    def together(self, target):
        all_written.wait()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", together)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda cache: cache.load(audio), caches))
    assert all(torch.equal(samples, wanted) for samples in found)
    assert all(cache.writable for cache in caches)
    (entry,) = entries(caches[0].folder)
    assert torch.equal(read_entry(entry), wanted)


def test_other_decoders_have_other_entries(tmp_path, monkeypatch, decoded):
    """Lest samples of an older libsndfile pass for a newer one's."""
    audio = AudioFile(write(tmp_path / "a.opus"))
    cache = AudioCache(tmp_path / "cache", 10**9)
    cache.load(audio)
    monkeypatch.setattr(cache_module, "DECODING", "another")
    cache.load(audio)
    assert decoded[audio] == 2


def test_it_comes_with_the_corpus_of_a_config(tmp_path, decoded):
    write(tmp_path / "a.opus")
    row = {"audio_filepath": "a.opus", "text": "one", "duration": 1.0}
    manifest = write_manifest(tmp_path / "m.jsonl", row)
    settings = DataSettings(train=manifest, eval=manifest, cache=str(tmp_path / "cache"))
    for _ in range(2):
        corpus = build_corpus(settings, 1)
        for utterance in (*corpus.train_epoch(0), *corpus.eval_utterances()):
            pickle.loads(pickle.dumps(utterance)).audio.load()  # in a worker
    assert sum(decoded.values()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_gigabytes": 0.0}, "data.cache_gigabytes must be more than 0"),
        ({"cache": "m.jsonl/cache"}, r"data.cache: .*m.jsonl/cache cannot be used \(Not a dir"),
        ({"corpus": "fsdd", "train": None, "eval": None}, "data.corpus excludes"),
        ({"split": "dev"}, "data.split is for a built-in corpus; name the dev set in data.eval"),
    ],
)
def test_settings_that_make_no_corpus(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav")
    write_manifest(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "text": "one"})
    settings = {"train": "m.jsonl", "eval": "m.jsonl", "cache": "cache", **changes}
    with pytest.raises(ConfigError, match=message):
        build_corpus(DataSettings(**settings), 1)


def test_recordings_sent_to_a_process_share_its_cache(tmp_path):
    """So that what it writes is counted, and a full disk is told once."""
    cache = AudioCache(tmp_path, 10**6)
    sent = [pickle.dumps(CachedAudio(AudioFile(tmp_path / name), cache)) for name in ("a", "b")]
    first, second = map(pickle.loads, sent)
    assert first.cache is second.cache
    assert (first.cache.folder, first.cache.limit) == (cache.folder, cache.limit)


def test_parts_of_a_recording_are_kept_apart(tmp_path: Path) -> None:
    whole = AudioFile(write(tmp_path / "a.flac", tone(3, 8000), 8000))
    kept = [AudioSlice(whole, *times) for times in ((0, 1), (0, 2), (1, 2), (1, None))]
    cache = AudioCache(tmp_path / "cache", 10**9)
    for _ in range(2):
        for part in [whole, *kept]:
            assert torch.equal(CachedAudio(part, cache).load(), part.load())
    assert len(entries(tmp_path / "cache")) == 5
    assert CachedAudio(kept[0], cache).as_slice() == kept[0]
