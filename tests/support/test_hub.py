"""Names of the hub are told from paths."""

import pytest

from echo.data.sources.datasets import HubReader
from echo.support.errors import DataError
from echo.support.hub import check_model, hub_name


@pytest.mark.parametrize("spec", ["org/name", "org/name:en", "org/name@train[:10%]", "o/n:en@dev"])
def test_what_is_read_as_a_data_set_of_the_hub_is_named_as_one(spec):
    assert HubReader().takes(spec)
    assert hub_name(spec) == spec.split(":")[0].split("@")[0]


@pytest.mark.parametrize("spec", ["/org/name", "../org/name", "o/n/m", "o/n:/home/me", "name", ""])
def test_a_path_is_none(spec):
    assert not HubReader().takes(spec)
    assert hub_name(spec) is None


@pytest.mark.parametrize("source", ["whisper-tiny", "openai/whisper-tiny", "."])
def test_a_model_has_a_name_of_the_hub_or_lies_here(source):
    check_model(source)


@pytest.mark.parametrize("source", ["/no/such", "a/b/c", "../none", "a:b"])
def test_what_is_neither_is_told(source):
    with pytest.raises(DataError, match="no such folder, and not a hub id"):
        check_model(source)
