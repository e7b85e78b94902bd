"""Transcribes recordings of at most 30 s with an exported model, without torch or transformers.

pip install onnxruntime numpy soundfile tokenizers
echo-asr export MODEL models/onnx --to onnx
python scripts/transcribe_onnx.py models/onnx recording.wav
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import tokenizers


class Transcriber:
    """The graphs of one model, and greedy decoding with them."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.graphs = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options)
            for name in ("encoder", "decoder", "decoder_with_past")
        }
        self.settings = json.loads((folder / "transcribe.json").read_text())
        self.filters = np.load(folder / "mel_filters.npy")
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def features(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(samples,) at 16 kHz -> log-mel features (1, n_mels, frames), and their mask."""
        seconds = len(samples) / 16000 + self.settings["added_silence"]
        seconds = min(max(seconds, self.settings["pad_to_seconds"]), self.settings["max_seconds"])
        samples = np.pad(samples, (0, max(0, round(seconds * 16000) - len(samples))))
        frames = -(-len(samples) // 160)
        waves = np.concatenate([samples[200:0:-1], samples, np.zeros(400, np.float32)])
        waves = np.lib.stride_tricks.sliding_window_view(waves, 400)[::160][:frames]
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        power = np.abs(np.fft.rfft(waves * window)) ** 2
        mel = np.log10(np.maximum(self.filters @ power.T, 1e-10))
        mel = (np.maximum(mel, mel.max() - 8) + 4) / 4
        mask = np.arange(frames + frames % 2)[None] < frames
        return np.pad(mel, ((0, 0), (0, frames % 2)))[None].astype(np.float32), mask.astype(
            np.int64
        )

    def run(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = [output.name for output in self.graphs[name].get_outputs()]
        return dict(zip(outputs, self.graphs[name].run(None, inputs), strict=True))

    def transcribe(self, samples: np.ndarray) -> str:
        told = self.settings
        features, mask = self.features(samples)
        encoder = {"input_features": features, "attention_mask": mask}
        hidden = self.run("encoder", encoder)["last_hidden_state"]
        heard = {"encoder_hidden_states": hidden, "attention_mask": mask}
        ids = list(told["prompt"])
        if known := list(told["languages"].values()):
            logits = self.run("decoder", {"input_ids": np.array([ids[:1]]), **heard})["logits"]
            ids.insert(1, known[int(logits[0, -1, known].argmax())])
        past: dict[str, np.ndarray] = {}
        start = len(ids)
        while len(ids) < told["max_tokens"]:
            if past:
                inputs = {"input_ids": np.array([ids[-1:]]), "attention_mask": mask, **past}
                output = self.run("decoder_with_past", inputs)
            else:
                output = self.run("decoder", {"input_ids": np.array([ids]), **heard})
            logits = output.pop("logits")[0, -1]
            logits[told["suppress"]] = -np.inf
            if len(ids) == start:
                logits[told["begin_suppress"]] = -np.inf
            if (token := int(logits.argmax())) == told["end"]:
                break
            ids.append(token)
            past |= {key.replace("present", "past_key_values"): v for key, v in output.items()}
        return self.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


if __name__ == "__main__":
    transcriber = Transcriber(Path(sys.argv[1]))
    for path in sys.argv[2:]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate == 16000, f"{path}: must be at 16 kHz"
        # One channel: the mean of channels in opposite phase would be silence.
        print(transcriber.transcribe(samples[:, samples.var(0).argmax()]))
