"""A development tool: extract the shapes of our operations from botocore's own service model.

``python tests/unit/rekognition/service_model.py`` writes ``model.json``; a test holds that file against the installed
botocore.
A function reads the small file, 27 KB in a quarter of a millisecond, where botocore's loader takes 10 to 30 ms for the
whole service; and the deployed contract is the tested one, whichever botocore the runtime brings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from abeyance.rekognition.operations import OPERATIONS
from abeyance.rekognition.wire import MODEL_FILE


def published() -> dict[str, Any]:
    """Return botocore's whole model of Amazon Rekognition."""
    from botocore.loaders import Loader

    model: dict[str, Any] = Loader(include_default_search_paths=True).load_service_model(
        "rekognition", "service-2"
    )
    return model


def extract(model: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a botocore service model that our operations need, without its documentation."""
    shapes: dict[str, Any] = {}
    operations = {}
    for name in sorted(OPERATIONS.keys() & model["operations"].keys()):
        operation = model["operations"][name]
        errors = [error["shape"] for error in operation["errors"]]
        operations[name] = {
            "input": operation["input"]["shape"],
            "output": operation["output"]["shape"],
            "errors": sorted(errors),
        }
        for shape in (operation["input"]["shape"], operation["output"]["shape"], *errors):
            _collect(model["shapes"], shape, shapes)
    metadata = {name: model["metadata"][name] for name in ("apiVersion", "jsonVersion", "targetPrefix")}
    return {"metadata": metadata, "operations": operations, "shapes": dict(sorted(shapes.items()))}


def _collect(source: dict[str, Any], name: str, into: dict[str, Any]) -> None:
    if name in into:
        return
    shape = into[name] = _bare(source[name])
    for part in (
        *shape.get("members", {}).values(),
        *(shape[k] for k in ("member", "key", "value") if k in shape),
    ):
        _collect(source, part["shape"], into)


def _bare(node: Any) -> Any:
    """Return a copy without documentation; a member of that name is kept."""
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _bare(member) for name, member in value.items()} if key == "members" else _bare(value)
        for key, value in node.items()
        if key != "documentation"
    }


def text(extracted: dict[str, Any]) -> str:
    """Return the text of the file: one shape a line, so that a new botocore is a readable change."""
    lines = [f' "metadata": {json.dumps(extracted["metadata"])}']
    for part in ("operations", "shapes"):
        rows = ",\n".join(
            f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in extracted[part].items()
        )
        lines.append(f' "{part}": {{\n{rows}\n }}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    Path(MODEL_FILE).write_text(text(extract(published())), encoding="utf-8")
