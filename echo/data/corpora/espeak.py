"""The embedded corpus: digits and commands spoken by eSpeak NG, for runs without any data."""

import ctypes
import hashlib
import io
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
import torch

from echo.config import Split
from echo.data.audio import AudioFile
from echo.data.corpora.phrases import draw_phrase
from echo.data.mixing import to_mono_16k
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError, EchoError, reason
from echo.support.files import whole_folder
from echo.support.progress import progress_bar

VERSION = "v1"  # raise it when the sound of the same plan changes

# A speaker is an accent in a variant's voice. The variants of the evaluation set are heard in no
# training utterance under any accent, so its speakers are new while its accents are not. Left out
# are the variants that whisper, rasp or sing, and those that Whisper makes out worst.
ACCENTS = (
    "en",
    "en-us",
    "en-us-nyc",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
TRAIN_VARIANTS = (
    *("m1", "m2", "m4", "m5", "m6", "m8", "f1", "f2", "f3", "f5"),
    *("adam", "aunty", "belinda", "benjamin", "edward", "grandma", "john", "Mario", "Michael"),
    *("miguel", "pablo", "steph", "zac"),
)
EVAL_VARIANTS = ("m3", "m7", "f4", "Annie", "linda", "robert")
# Training voices that are held out to choose settings by, and say other sentences there.
DEV_VARIANTS = ("m4", "m8", "f3", "edward", "steph")


@dataclass(frozen=True)
class Prompt:
    """Everything that decides how one utterance sounds."""

    text: str
    speaker: str  # eSpeak's name of the voice: "en-gb-x-rp+f3"
    rate: int  # words per minute
    pitch: int  # 0 to 99, 50 being the voice's own
    silence: tuple[float, float]  # seconds before and after
    peak: float  # the loudest sample, before noise
    snr: float  # dB
    tilt: float  # of the noise's spectrum, as f ** -tilt: 0 is white, 1 brown
    noise_seed: int


class SpokenCommands(FixedCorpus):
    """Connected digits and spoken commands, synthesised at the first use and then kept.

    Args:
        cache: where the corpus is kept, as `espeak-v1-<hash>`; by default
            `$XDG_CACHE_HOME/echo-asr`, or `~/.cache/echo-asr`.
        split: what is measured: "test", of voices that no training utterance has; or "dev", of
            training voices that are then left out of training.

    Raises:
        DataError: the corpus is not there yet, and eSpeak NG is not installed to make it.
    """

    def __init__(
        self,
        cache: Path | None = None,
        train_utterances: int = 2400,
        eval_utterances: int = 1000,  # with fewer, 1 % of WER is hardly told from 2 %
        split: Split = "test",
    ) -> None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = make_corpus(cache or caches / "echo-asr", train_utterances, eval_utterances)
        train = read_split(folder / "train.jsonl")
        if split == "test":
            super().__init__(train, eval=read_split(folder / "dev.jsonl"))
        else:
            super().__init__(
                [u for u in train if variant(u) not in DEV_VARIANTS],
                eval=read_split(folder / "choice.jsonl"),
            )


def read_split(path: Path) -> list[Utterance]:
    """Returns what `write_corpus` wrote of one split. DataError if its list is missing or
    damaged."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None
    return [
        Utterance(
            id=line["audio_filepath"],
            audio=AudioFile(path.parent / line["audio_filepath"]),
            text=line["text"],
            duration=line["duration"],
            speaker=line["speaker"],
            where=f"{path}:{number}",
        )
        for number, line in enumerate(lines, 1)
    ]


def variant(utterance: Utterance) -> str:
    """Returns the variant in a speaker's name: f3 of en-gb-x-rp+f3."""
    assert utterance.speaker is not None
    return utterance.speaker.partition("+")[2]


def plan(split: str, variants: Sequence[str], utterances: int) -> list[Prompt]:
    """Draws the utterances of one split, always the same for the same arguments."""
    rng = random.Random(split)
    speakers = [f"{accent}+{variant}" for accent, variant in product(ACCENTS, variants)]
    rng.shuffle(speakers)
    manner = {speaker: (rng.uniform(140, 200), rng.uniform(30, 70)) for speaker in speakers}
    prompts = []
    for i in range(utterances):
        speaker = speakers[i % len(speakers)]
        rate, pitch = manner[speaker]
        prompts.append(
            Prompt(
                text=draw_phrase(rng),
                speaker=speaker,
                rate=round(rate + rng.uniform(-15, 15)),
                pitch=round(pitch + rng.uniform(-8, 8)),
                silence=(rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.3)),
                peak=rng.uniform(0.2, 0.8),
                snr=rng.uniform(15, 40),
                tilt=rng.uniform(0, 1),
                noise_seed=rng.getrandbits(32),
            )
        )
    return prompts


def make_corpus(cache: Path, train_utterances: int, eval_utterances: int) -> Path:
    """Returns the corpus's folder in `cache`, with `train.jsonl` and `dev.jsonl`; synthesised if
    absent.

    The folder appears under its name complete or not at all, also when several processes make
    it at once: each builds its own, and the first to finish is kept. DataError if eSpeak NG is
    needed and cannot be used.
    """
    splits = {
        "train": plan("train", TRAIN_VARIANTS, train_utterances),
        "dev": plan("dev", EVAL_VARIANTS, eval_utterances),
        # Last, so that the others sound as they did before it was added.
        "choice": plan("choice", DEV_VARIANTS, eval_utterances),
    }
    digest = hashlib.sha256(repr(splits).encode()).hexdigest()[:12]
    folder = cache / f"espeak-{VERSION}-{digest}"
    if not folder.is_dir():
        try:
            with whole_folder(folder) as unfinished:
                write_corpus(unfinished, splits)
        except EchoError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


def write_corpus(folder: Path, splits: Mapping[str, Sequence[Prompt]]) -> None:
    synthesise = synthesiser()
    with progress_bar(total=sum(map(len, splits.values())), desc="Synthesising speech") as bar:
        for split, prompts in splits.items():
            (folder / split).mkdir(parents=True)
            lines = []
            for number, prompt in enumerate(prompts):
                samples = render(prompt, synthesise)
                name = f"{split}/{number:05d}.flac"
                sound = io.BytesIO()  # not a path: libsndfile has its own error for a full disk
                soundfile.write(sound, samples.numpy(), SAMPLE_RATE, format="FLAC")
                (folder / name).write_bytes(sound.getvalue())
                line = {
                    "audio_filepath": name,
                    "duration": len(samples) / SAMPLE_RATE,
                    "text": prompt.text,
                    "speaker": prompt.speaker,
                }
                lines.append(json.dumps(line) + "\n")
                bar.update()
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def render(prompt: Prompt, synthesise: "Synthesiser") -> torch.Tensor:
    """Speaks a prompt: (samples,) float32 at 16 kHz within ±1, with silence and noise."""
    speech = synthesise(prompt.text, prompt.speaker, prompt.rate, prompt.pitch)
    speech = speech * (prompt.peak / speech.abs().max())
    before, after = (round(seconds * SAMPLE_RATE) for seconds in prompt.silence)
    samples = torch.nn.functional.pad(speech, (before, after))
    noise = coloured_noise(len(samples), prompt.tilt, prompt.noise_seed)
    noise_level = speech.square().mean().sqrt() * 10 ** (-prompt.snr / 20)
    return (samples + noise * noise_level / noise.square().mean().sqrt()).clamp(-1, 1)


def coloured_noise(length: int, tilt: float, seed: int) -> torch.Tensor:
    """Returns (length,) of noise whose spectrum falls with the frequency, as f ** -tilt."""
    n = 1 << (length - 1).bit_length()  # other lengths are slow to transform
    spectrum = torch.fft.rfft(torch.randn(n, generator=torch.Generator().manual_seed(seed)))
    spectrum *= torch.arange(len(spectrum)).clamp(min=1) ** -tilt
    return torch.fft.irfft(spectrum, n=n)[:length]


class Synthesiser:
    """eSpeak NG's library, spoken to through ctypes. It keeps one state for the whole process.

    That state outlives an instance and shifts the speech by a few samples: a corpus is the same
    to the bit wherever it is the first that its process makes. DataError if eSpeak NG is not
    installed, or does not start.
    """

    # speak_lib.h
    _SYNCHRONOUS = 2
    _DO_NOT_EXIT = 0x8000  # by default a failed start ends the process
    _RATE, _PITCH = 1, 3
    _UTF8 = 1
    _CALLBACK = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise DataError(
                "the embedded corpus is spoken by eSpeak NG, which is not installed: "
                'pip install "echo-asr[demo]"'
            ) from None
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise DataError(f"eSpeak NG's library cannot be loaded ({error})") from None
        self._library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        )
        data = espeakng_loader.get_data_path()
        self.rate = self._library.espeak_Initialize(
            self._SYNCHRONOUS, 0, os.fsencode(data), self._DO_NOT_EXIT
        )
        if self.rate <= 0:
            raise DataError(f"eSpeak NG does not start with its data in {data}")
        self._chunks: list[np.ndarray] = []
        # The library keeps the bare pointer, so the callback must live as long as it does.
        self._callback = self._CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count: int, events: int) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on

    def __call__(self, text: str, voice: str, rate: int, pitch: int) -> torch.Tensor:
        """Speaks `text` as (samples,) float32 at 16 kHz. DataError if eSpeak NG has no such accent,
        or fails; it takes an unknown variant (what follows the voice's "+") for none."""
        self._chunks.clear()
        library, encoded = self._library, text.encode()
        failed = (
            library.espeak_SetVoiceByName(voice.encode())
            or library.espeak_SetParameter(self._RATE, rate, 0)
            or library.espeak_SetParameter(self._PITCH, pitch, 0)
            or library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, self._UTF8, None, None)
        )
        if failed or not self._chunks:
            raise DataError(f'eSpeak NG cannot say "{text}" in the voice {voice}')
        pcm = torch.from_numpy(np.concatenate(self._chunks)).float() / 32768
        return to_mono_16k(pcm[None], self.rate, f'eSpeak NG\'s "{text}"')


@lru_cache
def synthesiser() -> Synthesiser:
    """Returns the synthesiser of this process: its library may crash where it is started twice."""
    return Synthesiser()
