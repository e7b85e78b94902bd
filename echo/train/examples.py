"""What TensorBoard shows of each evaluation besides numbers: a few fixed utterances, and the
attention of the model on one of them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from echo.attention.settings import AttentionSettings
from echo.checkpoints.load import LoadedModel
from echo.data.examples import ExampleReader
from echo.evaluate.decoding import Transcripts
from echo.inspect.figures import draw_layer
from echo.inspect.inspect import STACKS, inspect_example
from echo.model.geometry import SAMPLE_RATE
from echo.support.text import one_line

SHOWN = 5  # utterances of each evaluation set


def show_transcripts(writer: SummaryWriter, step: int, heard: Mapping[str, Transcripts]) -> None:
    """Writes a table for each evaluation set, by its name; a single set has the name ""."""
    for name, transcripts in heard.items():
        lines = [("utterance", "reference", "transcript"), ("---",) * 3]
        pairs = zip(transcripts.utterances[:SHOWN], transcripts.texts, strict=False)
        lines += [(plain(u.id), plain(u.text), plain(text)) for u, text in pairs]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        writer.add_text(tag_of("eval/transcripts", name), table, step)


def show_audio(writer: SummaryWriter, step: int, heard: Mapping[str, Transcripts]) -> None:
    """Writes the recordings of the utterances that `show_transcripts` shows."""
    for name, transcripts in heard.items():
        for utterance in transcripts.utterances[:SHOWN]:
            tag = f"{tag_of('eval', name)}/{utterance.id}"
            writer.add_audio(tag, utterance.audio.load()[None], step, SAMPLE_RATE)


def show_attention(
    writer: SummaryWriter, step: int, heard: Mapping[str, Transcripts], loaded: LoadedModel
) -> None:
    """Draws the attention of one encoder and one decoder layer, the last focused ones or else the
    last, while the model reads the shortest shown utterance and its reference."""
    shown = next(iter(heard.values())).utterances[:SHOWN]
    utterance = min(shown, key=lambda each: each.duration)  # maps grow with its square
    model = loaded.model
    reader = ExampleReader.of(model, loaded.tokenizer, labelled=False)
    training = model.training
    model.eval()
    try:
        inspection = inspect_example(loaded, reader.read(utterance), utterance.id, utterance.text)
        for stack in STACKS:
            layer = inspection.layer(stack, most_telling(inspection.settings(stack)))
            picture = np.asarray(draw_layer(inspection, layer))
            writer.add_image(f"attention/{layer.numbers.name}", picture, step, dataformats="HWC")
    finally:
        model.train(training)


def most_telling(layers: Sequence[AttentionSettings]) -> int:
    """The last focused layer, or the last one if none is."""
    focused = [index for index, layer in enumerate(layers) if not layer.is_plain]
    return focused[-1] if focused else len(layers) - 1


def tag_of(kind: str, name: str) -> str:
    return f"{kind}_{name}" if name else kind


def plain(text: str) -> str:
    """Text in one line as TensorBoard's Markdown shows it: nothing in it is markup."""
    return re.sub(r"[!-/:-@\[-`{-~]", lambda found: f"&#{ord(found[0])};", one_line(text))
