"""With what it was made: every setting, the versions and the machine."""

from difformer.report.blocks import Code, Facts, Section
from difformer.report.files import Files
from difformer.report.words import MISSING, listed

ENTRIES = (
    ("python", "Python"),
    ("cpu_count", "Logical cores"),
    ("torch_threads", "Threads of torch"),
    ("cuda", "Accelerators"),
    ("platform", "Platform"),
    ("git_commit", "Commit"),
)


def settings(files: Files) -> Section:
    """Return the section."""
    facts = [(title, _text(files.environment.get(key))) for key, title in ENTRIES]
    packages = files.environment.get("packages")
    if isinstance(packages, dict):
        versions = [f"{name}\u00a0{version}" for name, version in packages.items() if version]
        facts.append(("Packages", listed(versions, most=20)))
    return Section(
        "settings", "Settings", [Facts(facts), Code("config.toml: every setting", files.config)]
    )


def _text(value: object) -> str:
    if isinstance(value, list):
        return listed([str(item) for item in value]) or "none"
    return MISSING if value is None else str(value)
