"""What is said in the embedded corpus: connected digits, and commands from a small grammar."""

import random
import re

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

COMMANDS = (
    "turn {switch} the {room} {device}",
    "turn the {device} {direction}",
    "set a timer for {number} {unit}",
    "set an alarm for {hour} in the {part}",
    "wake me at {hour}",
    "call {contact}",
    "send a message to {contact}",
    "play some {music}",
    "play the next song",
    "stop the {music}",
    "{movement} the {opening} door",
    "what time is it",
    "what is the weather {day}",
    "read the news",
    "add {food} to the list",
)
SLOTS = {
    "switch": ("on", "off"),
    "direction": ("up", "down"),
    "room": ("kitchen", "bedroom", "bathroom", "office", "garden"),
    "device": ("light", "lamp", "heater", "fan", "radio"),
    "number": (*DIGITS[2:], "ten", "twelve", "fifteen", "twenty", "thirty"),
    "unit": ("seconds", "minutes", "hours"),
    "hour": (*DIGITS[1:], "ten", "eleven", "twelve"),
    "part": ("morning", "evening"),
    "contact": ("home", "mother", "the doctor", "the office"),
    "music": ("music", "jazz", "piano"),
    "movement": ("open", "close", "lock"),
    "opening": ("front", "garage", "garden"),
    "day": ("today", "tomorrow", "this evening"),
    "food": ("milk", "bread", "apples", "coffee"),
}


def draw_phrase(rng: random.Random) -> str:
    """Returns one phrase in lower case: 1 to 6 digits half of the time, else a command."""
    if rng.random() < 0.5:
        return " ".join(rng.choice(DIGITS) for _ in range(rng.randint(1, 6)))
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(SLOTS[slot[1]]), rng.choice(COMMANDS))
