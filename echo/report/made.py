"""How a result was made, in words: what its provenance says of data, versions and hardware."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup


def made(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields terms and what to say of them. What is not as Echo writes it raises an error of its
    own kind, such as a TypeError."""
    if provenance.get("command"):
        yield "Command", Markup("<code>{}</code>").format(provenance["command"])
    if provenance.get("date"):
        yield "Date", provenance["date"].replace("T", " ").replace("+00:00", " UTC")
    for what, data in provenance.get("data", {}).items():
        speakers = f", {data['speakers']} speakers" if data.get("speakers") else ""
        told = f"{data['utterances']:,} utterances, {data['seconds'] / 3600:.2f} hours{speakers}"
        as_code = Markup("{}, fingerprint <code>{}</code>")
        yield f"{what.capitalize()} data", as_code.format(told, data["fingerprint"])
    for key, value in provenance.get("settings", {}).items():
        yield key.capitalize(), listed(value) if isinstance(value, Mapping) else str(value)
    if provenance.get("versions"):
        yield "Versions", listed(provenance["versions"])
    if provenance.get("hardware"):
        yield "Hardware", hardware(provenance["hardware"])


def hardware(found: Mapping[str, Any]) -> str:
    threads = f"{found['threads']} thread{'s' if found['threads'] != 1 else ''} of torch"
    memory = f"{found['memory_bytes'] / 1e9:.0f} GB of memory"
    return f"{found['gpu'] or found['processor']}, {found['cores']} cores, {threads}, {memory}"


def listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
