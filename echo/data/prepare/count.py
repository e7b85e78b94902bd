"""What commands say of the rows that they read, wrote and left out."""

from dataclasses import dataclass


@dataclass
class Count:
    """How many rows there are, and how long they are."""

    rows: int = 0
    seconds: float = 0.0
    unknown: int = 0  # rows of unknown length

    def add(self, seconds: float | None) -> None:
        self.rows += 1
        self.seconds += seconds or 0.0
        self.unknown += seconds is None

    def of(self, what: str) -> str:
        unknown = f" and {self.unknown} of unknown length" if self.unknown else ""
        return (
            f"{self.rows} {what}{'s' * (self.rows != 1)}, {self.seconds / 3600:.2f} hours{unknown}"
        )

    def __str__(self) -> str:
        return self.of("row")
