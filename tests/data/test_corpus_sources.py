"""Built-in corpora as sources: what their runs are measured on."""

import pytest
import torch

from echo.config import DataSettings
from echo.data.build import build_corpus
from echo.data.sources import Columns, ReadOptions, read_source
from echo.support.errors import DataError


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_source_is_what_a_run_on_the_corpus_is_measured_on(shared, split):
    root = shared / "data" / "fsdd"
    expected = build_corpus(
        DataSettings(corpus="fsdd", root=str(root), split=split), seed=3
    ).eval_utterances()
    found = read_source(f"fsdd:{root}" + ("@dev" if split == "dev" else ""))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.id, one.text, one.duration, one.speaker, one.where) == (
            (other.id, other.text, other.duration, other.speaker, other.where)
        )
    assert torch.equal(found[0].audio.load(), expected[0].audio.load())


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        ("fsdd:", Columns(), "fsdd:: must name the corpus's folder, as fsdd:FOLDER"),
        ("fsdd:/nowhere", Columns(), "/nowhere/recordings: no such folder"),
        ("espeak:@train", Columns(), "has no split 'train'; it has test and dev"),
    ],
)
def test_what_is_wrong_with_one_is_said(source, columns, message):
    with pytest.raises(DataError, match=message):
        read_source(source, ReadOptions(columns))


def test_columns_of_a_corpus_cannot_be_chosen(shared):
    with pytest.raises(DataError, match="no text column: expected 'words'"):
        read_source(f"fsdd:{shared / 'data' / 'fsdd'}", ReadOptions(Columns(text="words")))
