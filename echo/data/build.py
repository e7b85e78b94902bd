"""A run's corpus, from its settings."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from echo.config import DataSettings
from echo.data.cache import AudioCache
from echo.data.columns import Utterances
from echo.data.corpora.stream import (
    AnyCorpus,
    MixedCorpus,
    Shard,
    StreamCorpus,
    Weighted,
    held_shards,
)
from echo.data.named import check_data, evaluation_sources, training_sources
from echo.data.sources import Columns, ReadOptions, read_source, stream_source
from echo.data.sources.corpora import built_in_corpus
from echo.data.sources.read import with_new_id
from echo.data.utterance import Evaluated, FixedCorpus, Utterance
from echo.support.errors import ConfigError


def build_corpus(settings: DataSettings, seed: int) -> AnyCorpus:
    """Returns the built-in corpus that is named, or that of the sources `data.train` and
    `data.eval`.

    Raises:
        ConfigError: the settings name no data, or data of both kinds.
        DataError: the data are not as they should be.
    """
    check_data(settings)
    if settings.corpus:
        return built_in_corpus(settings, seed)
    columns = Columns(settings.audio_column, settings.text_column, settings.speaker_column)
    options = ReadOptions(columns, settings.on_error, settings.allow_outside)
    streamed = replace(options, streaming=settings.streaming)
    cache = None
    if settings.cache is not None:
        cache = AudioCache(Path(settings.cache), round(settings.cache_gigabytes * 1e9))

    def held_whole(spec: str) -> Sequence[Utterance]:
        utterances = read_source(spec, options)
        return cache.over(utterances) if cache else utterances

    streams: list[Weighted[Shard]] = []
    held: list[Weighted[Utterance]] = []
    for source in training_sources(settings):
        shards = stream_source(source.source, streamed)
        if shards is None:
            held.append(Weighted(held_whole(source.source), source.weight))
        else:
            streams.append(Weighted(shards, source.weight))
    sets = {
        name: joined([held_whole(spec) for spec in specs])
        for name, specs in evaluation_sources(settings).items()
    }
    evaluated: Evaluated = sets if isinstance(settings.eval, dict) else sets[""]
    if streams and cache:
        raise ConfigError("data.cache does not work with streams: leave it out")
    if streams:  # with what is held whole cut into shards beside them
        streams += [Weighted(held_shards(source.parts), source.weight) for source in held]
        return StreamCorpus(streams, evaluated, seed, settings.shards_per_block)
    if isinstance(settings.train, str):
        return FixedCorpus(held[0].parts, evaluated)
    return MixedCorpus(held, evaluated, seed)


def joined(sources: Sequence[Sequence[Utterance]]) -> Sequence[Utterance]:
    """Returns the utterances of all sources, each with an id of its own."""
    if len(sources) == 1:
        return sources[0]
    ids: set[str] = set()
    return Utterances.of(with_new_id(row, ids) for row in chain(*sources))
