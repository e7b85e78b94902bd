"""Training from shards: the order, going on from any position, and what is read for it."""

import random
from collections import Counter
from fractions import Fraction
from itertools import islice
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import echo.data.audio
from echo.config import AugmentSettings, DataSettings, RunConfig, SourceSettings
from echo.data.batching import EpochBatches, Position
from echo.data.build import build_corpus
from echo.data.corpora.stream import MixedCorpus, StreamCorpus, Weighted, mix
from echo.data.examples import ExampleReader
from echo.data.loading import training_loader
from echo.data.prepare.shard import write_shards
from echo.data.sources import read_source
from echo.data.sources.tar import TarShard
from echo.data.tokenizer import train_tokenizer
from echo.model.geometry import Limits
from echo.support.errors import ConfigError, DataError
from echo.support.settings import build
from tests.data.recordings import tone, write, write_manifest

SOURCES = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0])),
    min_size=1,
    max_size=3,
)


@given(SOURCES, st.integers(0, 5))
@settings(deadline=None)
def test_after_some_epochs_each_part_has_come_as_often_as_its_source_weighs(sizes, seed):
    """Whatever the weights: at no time twice more than another part of its source."""
    sources = [
        Weighted([(number, part) for part in range(size)], weight)
        for number, (size, weight) in enumerate(sizes)
    ]
    seen = Counter()
    for epoch in range(6):
        parts = mix(sources, seed, epoch)
        assert parts == mix(sources, seed, epoch)
        seen.update(parts)
        for source in sources:
            counts = [seen[part] for part in source.parts]
            assert max(counts) - min(counts) <= 1
            done = Fraction(str(source.weight)) * (epoch + 1) * len(source.parts)
            assert sum(counts) == int(done)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    rows = []
    for i in range(30):
        seconds = random.Random(i).uniform(0.3, 1.2)
        write(folder / f"{i}.wav", tone(seconds))
        rows.append({"audio_filepath": f"{i}.wav", "text": "one two", "duration": seconds})
    return write_manifest(folder / "all.jsonl", *rows)


@pytest.fixture(scope="module")
def shards(manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    write_shards(read_source(manifest), out, max_utterances=4)
    return out


def data_settings(train, manifest, **changes):
    return DataSettings(
        **{"train": train, "eval": manifest, "shards_per_block": 3, "workers": 0, **changes}
    )


def batches_of(corpus, start=Position(), rank=0, world=1):  # noqa: B008
    return EpochBatches(corpus, 1, 4, 4, [0.9, 1.0, 1.1], start, rank, world)


def load(data, corpus, count, start=Position()):  # noqa: B008
    """So many batches as ids and what their features come to, and the position behind each."""
    reader = ExampleReader(train_tokenizer(["one two"]), Limits(80, 300, 12))
    sampler = batches_of(corpus, start)
    loader = training_loader(corpus, sampler, reader, data, 1)
    pairs = islice(zip(loader, sampler.positions(), strict=False), count)
    found = [([u.id for u in b.utterances], b.input_features, p) for b, p in pairs]
    batches = [(ids, crc32(features.numpy().tobytes())) for ids, features, _ in found]
    return batches, [p for *_, p in found]


@pytest.mark.parametrize("kind", ["tar", "parquet", "mixed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_from_any_position(kind, workers, manifest, shards, tmp_path):
    """To the bit, over the ends of blocks and epochs; and the workers do not change the order."""
    train = str(shards)
    if kind == "parquet":
        train = to_parquet(manifest, tmp_path)
    elif kind == "mixed":
        train = [SourceSettings(str(shards), 0.5), SourceSettings(manifest, 1.5)]
    data = data_settings(train, manifest, workers=workers, augment=AugmentSettings())
    corpus = build_corpus(data, 1)
    assert isinstance(corpus, StreamCorpus)
    whole, positions = load(data, corpus, 20)
    without_workers, _ = load(data_settings(train, manifest), corpus, 20)
    assert [ids for ids, _ in whole] == [ids for ids, _ in without_workers]
    assert positions[-1].epoch >= 1
    assert len({position.block for position in positions}) > 1
    for done in (1, 5, 13):
        rest, ends = load(data, corpus, 20 - done, positions[done - 1])
        assert rest == whole[done:]
        assert ends == positions[done:]


def to_parquet(manifest, folder):
    """In row groups of four, with the recordings' bytes, as on the hub."""
    import pyarrow
    import pyarrow.parquet

    utterances = read_source(manifest)
    table = {
        "audio": [{"bytes": u.audio.path.read_bytes(), "path": u.id} for u in utterances],
        "text": [u.text for u in utterances],
    }
    path = folder / "all.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path, row_group_size=4)
    return str(path)


def test_an_epoch_holds_every_utterance_once(manifest, shards):
    corpus = build_corpus(data_settings(str(shards), manifest), 1)
    every = sorted(u.id for u in read_source(manifest))
    orders = [[], []]
    for batch in batches_of(corpus):
        if batch[0].epoch == len(orders):
            break
        orders[batch[0].epoch] += [item.row.id for item in batch]
    assert all(sorted(order) == every for order in orders)
    assert orders[0] != orders[1]


def test_processes_share_one_order_and_another_number_goes_on_with_it(manifest, shards):
    corpus = build_corpus(data_settings(str(shards), manifest), 1)
    alone = list(islice(batches_of(corpus), 24))
    start, found = Position(), []
    for world, rounds in ((2, 4), (3, 2), (1, 10)):
        parts = [batches_of(corpus, start, rank, world) for rank in range(world)]
        pairs = [list(islice(zip(p, p.positions(), strict=False), rounds)) for p in parts]
        found += [own[r][0] for r in range(rounds) for own in pairs]
        ends = {own[-1][1] for own in pairs}
        assert len(ends) == 1
        (start,) = ends
    assert found == alone


def test_going_on_decodes_nothing_and_reads_no_shard_of_earlier_blocks(
    manifest, shards, monkeypatch
):
    corpus = build_corpus(data_settings(str(shards), manifest), 1)
    last = len(corpus.blocks(0)) - 1
    read, decoded = [], []
    read_shard, decode = TarShard.__iter__, echo.data.audio.decode

    def counting_read(self):
        read.append(self.path)
        return read_shard(self)

    def counting_decode(source, name):
        decoded.append(name)
        return decode(source, name)

    monkeypatch.setattr(TarShard, "__iter__", counting_read)
    monkeypatch.setattr(echo.data.audio, "decode", counting_decode)
    next(iter(batches_of(corpus, Position(0, 1, last))))
    assert read == [shard.rows.path for shard in corpus.blocks(0)[last]]
    assert not decoded
    (batch,), _ = load(data_settings(str(shards), manifest), corpus, 1, Position(0, 1, last))
    assert len(decoded) == len(batch[0])


def test_a_bad_row_comes_with_a_batch_to_be_counted(manifest):
    (good, *_) = read_source(manifest)
    held = [DataError("x.tar: is cut off"), good]
    corpus = StreamCorpus([Weighted([held])], [], 1, 8)
    assert corpus.known_utterances() == [good]
    reader = ExampleReader(train_tokenizer(["one two"]), Limits(80, 300, 12))
    loader = training_loader(corpus, batches_of(corpus), reader, DataSettings(workers=0), 1)
    batch = next(iter(loader))
    assert [u.id for u in batch.utterances] == [good.id]
    assert [str(error) for error in batch.skipped] == ["x.tar: is cut off"]


def test_held_sources_are_mixed_in_memory(manifest):
    sources = [SourceSettings(manifest, 2), manifest]
    corpus = build_corpus(data_settings(sources, manifest), 1)
    assert isinstance(corpus, MixedCorpus)
    counts = Counter(u.id for u in corpus.train_epoch(0))
    assert set(counts.values()) == {3}
    assert len(counts) == 30
    with pytest.raises(ConfigError, match=r"data.train\[0\].weight is 0, but must be more than 0"):
        build(RunConfig, {"data": {"train": [{"source": manifest, "weight": 0}]}}, "test")


def test_a_stream_is_not_cached(manifest, tmp_path):
    write_shards(read_source(manifest), tmp_path / "shards", "opus", max_utterances=5)
    kept = DataSettings(train=str(tmp_path / "shards"), eval=manifest, cache=str(tmp_path / "c"))
    with pytest.raises(ConfigError, match=r"data\.cache does not work with streams"):
        build_corpus(kept, 1)
