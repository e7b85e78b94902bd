"""Renders a result as one HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent
PLOTTING = HERE / "vendor" / "uplot"


def environment() -> Environment:
    """The templates. Whatever they insert is escaped, but for what they get from `inline`."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # tojson escapes <, >, & and quotes, so that no text of a result can end its script element.
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    found.globals["inline"] = inline
    found.filters["percent"] = percent
    return found


def inline(name: str) -> Markup:
    """A file of the package's own styles or scripts, to be inserted as it is."""
    folder = PLOTTING if name.startswith("uPlot") else HERE / "static"
    return Markup((folder / name).read_text(encoding="utf-8"))


def percent(rate: float, digits: int = 2) -> str:
    return f"{100 * rate:.{digits}f} %"


def render(template: str, sections: Mapping[str, Any]) -> str:
    """Renders a page of the sections that a template shows."""
    return environment().get_template(template).render(sections)
