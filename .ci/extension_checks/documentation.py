"""What the homepage, the tutorial and the sample data owe the Index's reviewers."""

from __future__ import annotations

import ast
import re
from urllib.parse import unquote

from extension_checks.extension import NAME, Check, Extension

README = "README.md"
TUTORIAL = "Documentation/tutorial.md"
SAMPLES = "MedalSLib/slicer/sample_data.py"
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def summary(extension: Extension) -> list[str]:
    """Name, and what it is for in one or two sentences, before anything else."""
    parts = [part.strip() for part in re.split(r"\n\s*\n", extension.text(README)) if part.strip()]
    if len(parts) < 2 or not parts[0].startswith("# "):
        return ["README.md does not begin with a heading and a paragraph"]
    found = [] if "Medal S" in parts[0] else ["the heading is not the extension's name"]
    opening = next((part for part in parts[1:] if not PICTURE.match(part)), "")
    sentences = [one for one in re.split(r"[.!?](?:\s|$)", opening) if one.strip()]
    return found if 1 <= len(sentences) <= 3 else [*found, f"its first paragraph has {len(sentences)} sentences"]


def picture(extension: Extension) -> list[str]:
    """A picture of what it does."""
    return [] if PICTURE.search(extension.text(README)) else ["README.md shows no picture"]


def modules(extension: Extension) -> list[str]:
    """Each module has a sentence."""
    text = extension.text(README)
    found = [] if re.search(r"^#+ .*modules?\b", text, re.MULTILINE | re.IGNORECASE) else ["there is no such heading"]
    return found if re.search(r"\*\*Medal S\*\*[^\n]*\w", text) else [*found, "the module Medal S has no sentence"]


def publication(extension: Extension) -> list[str]:
    """Where to read and what to cite."""
    text = extension.text(README)
    found = [] if re.search(r"\]\(https://(arxiv\.org|doi\.org)/", text) else ["there is no link to a publication"]
    return found if re.search(r"\bcite\b", text) else [*found, "nothing says what to cite"]


def tutorial(extension: Extension) -> list[str]:
    """Steps, pictures, and where the images come from."""
    text = extension.text(TUTORIAL)
    if not text:
        return [f"{TUTORIAL} is missing"]
    found = [] if f"]({TUTORIAL})" in extension.text(README) else ["README.md has no link to it"]
    if len(re.findall(r"^##+ \d+\.", text, re.MULTILINE)) < 3:
        found.append("it has fewer than three numbered steps")
    if len(PICTURE.findall(text)) < 2:
        found.append("it has fewer than two pictures")
    if "Sample Data" not in text:
        found.append("it does not say that its images come from Sample Data")
    names = [str(sample.get("name")) for sample in _samples(extension)]
    return found if any(name in text for name in names) else [*found, f"it uses none of {names}, as they are shown"]


def samples(extension: Extension) -> list[str]:
    """Sample data are registered, with digests."""
    registered = _samples(extension)
    found = [] if registered else [f"{SAMPLES} registers nothing"]
    for sample in registered:
        if not re.fullmatch("[0-9a-f]{64}", str(sample.get("sha256", ""))):
            found.append(f"{sample.get('name')} has no SHA-256")
    if "registerSamples" not in extension.text(f"{NAME}/{NAME}.py"):
        found.append(f"{NAME}.py does not register them")
    return found


def links(extension: Extension) -> list[str]:
    """Links and pictures of the documentation lead to files of the repository."""
    found = []
    pages = [name for name in extension.files if name == README or re.fullmatch(r"Documentation/.*\.md", name)]
    for page in pages:
        text = re.sub(r"```.*?```", "", extension.text(page), flags=re.DOTALL)
        for target in (*PICTURE.findall(text), *LINK.findall(text)):
            if re.match(r"[a-z]+:", target) or target.startswith("#"):
                continue
            place = (extension.root / page).parent / unquote(target.split("#")[0])
            if not place.exists():
                found.append(f"{page}: {target}")
    return found


def _samples(extension: Extension) -> list[dict[str, object]]:
    """Return the constants of each `Sample(...)`, by field; read, not run."""
    tree = extension.tree(SAMPLES)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Sample"]
    fields = [
        item.target.id
        for cls in classes
        for item in cls.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Sample"]
    made: list[dict[str, object]] = []
    for call in calls:
        values = [argument.value if isinstance(argument, ast.Constant) else None for argument in call.args]
        made.append(dict(zip(fields, values, strict=False)))
    return made


CHECKS = (
    Check("README begins with the name and what it is for", "Rewrite its first paragraph.", summary),
    Check("README shows what the extension does", "Add a screenshot from Documentation/images.", picture),
    Check("README has a sentence for each module", "Add a section about the modules.", modules),
    Check("README links the publication and says what to cite", "Add both.", publication),
    Check("There is a tutorial with steps, pictures and sample data", f"Mend {TUTORIAL}.", tutorial),
    Check("Sample data are registered with their digests", f"Mend {SAMPLES}.", samples),
    Check("Links of the documentation lead to files", "Mend the links.", links),
)
