"""What results show of each model: the columns of the table of models."""

from echo.evaluate.result import Figure

WER = Figure("WER", "%", ".2f", 100)
CER = Figure("CER", "%", ".2f", 100)
PARAMETERS = Figure("Parameters", "M", ".2f", 1e-6, is_cost=True)
MEMORY = Figure("Memory", "MB", ",.0f", 1e-6, "peak in transcribing, weights included", True)
RTFX = Figure("RTFx", "", ".1f", 1, "seconds of audio transcribed in a second", True)
RTFX_EQUAL = Figure("RTFx at equal padding", "", ".1f", 1, "as the first one pads", True)
FLOPS = Figure("FLOPs", "G", ",.2f", 1e-9, "operations in training for each second of audio", True)
STEPS = Figure("Steps", "", ",.0f")
STEP_TIME = Figure("Time per step", "", ".2f", 1, "relative to the baseline's")
TRAIN_TIME = Figure("Time of training", "s", ",.0f", 1, "", True)
TRAIN_MEMORY = Figure("Memory in training", "MB", ",.0f", 1e-6, "peak of one step", True)
LOSS = Figure("Last training loss", "", ".3g")
SPAN, TEMPERATURE, GAIN = (
    Figure(name, "", ".2f", 1, "mean over the focused blocks")
    for name in ("Span", "Temperature", "Gain")
)
