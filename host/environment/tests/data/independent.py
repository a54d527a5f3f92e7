"""Names of variables that other people's packages themselves treat as secrets: the list that tests compare ours with.

    extract.py DIRECTORY...      each an unpacked wheel; prints `name  package`

Two packages' own marks are believed, and no pattern of names:

* langchain-community: what it wraps in `SecretStr`, by `convert_to_secret_str` or `secret_from_env`;
* litellm: what it reads by `get_secret` into a variable or argument whose name ends in `api_key`.
"""

import ast
import pathlib
import re
import sys

NAME = re.compile(r"[A-Z][A-Z0-9_]{3,}\Z")


def strings(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str) and NAME.match(n.value)}


def called(node):
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def langchain(tree):
    wrapping = {"convert_to_secret_str", "secret_from_env", "SecretStr"}
    return set().union(*(strings(n) for n in ast.walk(tree) if isinstance(n, ast.Call) and called(n) in wrapping), set())


def litellm(tree):
    def read(value):
        calls = (n for n in ast.walk(value) if isinstance(n, ast.Call) and called(n) in {"get_secret", "get_secret_str"})
        return set().union(*(strings(call) for call in calls), set())

    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "").endswith("api_key") for t in node.targets):
            found |= read(node.value)
        if isinstance(node, ast.keyword) and (node.arg or "").endswith("api_key"):
            found |= read(node.value)
    return found


found = {}
for directory in map(pathlib.Path, sys.argv[1:]):
    (metadata,) = directory.glob("*.dist-info/METADATA")
    fields = dict(line.split(": ", 1) for line in metadata.read_text().split("\n\n")[0].splitlines() if ": " in line)
    package = fields["Name"]
    how = {"langchain-community": langchain, "litellm": litellm}[package]
    for path in directory.rglob("*.py"):
        for name in how(ast.parse(path.read_text())):
            found.setdefault(name, set()).add(f"{package} {fields['Version']}")
for name in sorted(found):
    print(f"{name}  {', '.join(sorted(found[name]))}")
