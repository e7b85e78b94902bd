"""A data set of the `datasets` library, as `load_from_disk` reads it."""

import shutil
from pathlib import Path
from typing import Any

from echo.data.prepare.formats.format import Format, Placed

OWN = ("id", "audio", "text", "speaker", "duration")


class HuggingFace(Format):
    """Its `Audio` is a whole file, so parts are cut out of their recordings. The library puts what
    the files hold into its tables when it saves them."""

    cuts = True
    files = "held"

    def add(self, row: Placed) -> None:
        utterance = row.utterance
        audio = {"bytes": None, "path": row.recording.path}
        values = (utterance.id, audio, utterance.text, utterance.speaker, row.duration)
        own = dict(zip(OWN, values, strict=True))
        self.rows.append(own | self.further(utterance, own))

    def write(self, folder: Path) -> None:
        from datasets import Audio, Dataset, Features, Value

        names = dict.fromkeys(key for row in self.rows for key in row if key not in OWN)
        for row in self.rows:
            row["audio"]["path"] = str(folder / row["audio"]["path"])
        columns: dict[str, list[Any]] = {
            name: [row.get(name) for row in self.rows] for name in (*OWN, *names)
        }
        kinds = {name: Value(kind_of(columns[name])) for name in names}
        for name, kind in kinds.items():
            if kind.dtype == "string":  # numbers among texts become texts
                columns[name] = [None if each is None else str(each) for each in columns[name]]
        features = Features(
            id=Value("string"),
            # Cast later, because `Audio` encodes nothing without torchcodec, not even a path.
            audio={"bytes": Value("binary"), "path": Value("string")},
            text=Value("string"),
            speaker=Value("string"),
            duration=Value("float64"),
            **kinds,
        )
        dataset = Dataset.from_dict(columns, features).cast_column("audio", Audio())
        dataset.save_to_disk(folder)
        shutil.rmtree(folder / self.audio_folder, ignore_errors=True)


def kind_of(values: list[Any]) -> str:
    """Returns the type of a column that can hold all of its values."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "bool"
    if kinds == {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return "int64"
    return "float64" if kinds and kinds <= {int, float} else "string"


FORMAT = HuggingFace
