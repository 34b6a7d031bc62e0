"""A player's identity in a record: a hash of the code that decides its outcome.

That code is the player's module and, transitively, what it imports from :data:`PACKAGES`: a kernel's change makes the
records of its users stale. Modules are compared by their syntax trees, so that comments, docstrings, formatting,
annotations, and imports that nothing uses or that only type checkers see do not count. Of the families of models only
those in use count, so that a new family makes no record stale. Sources are read, never imported.

Annotations of a class's fields do count, since dataclasses and configs are made of them: they say what is a field and
what it accepts. Of what a player is handed (a view and the objects in it) only the symmetry map is followed, where it
reads an ``architecture``; no name is that is imported as the program runs. It guards against forgetting, not deceit.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mergearena.bench.errors import ArenaError

HOUSE = Path(__file__).resolve().parents[2]
"""The folder of ``attacks/``, ``bench/`` and ``defenses/``, in a checkout as in an installation."""
PACKAGES = (
    "mergearena.attacks",
    "mergearena.defenses",
    "mergearena.bench.learning",
    "mergearena.bench.merging",
    "mergearena.bench.symmetry",
)
"""Where imports are followed to; all else (games, suites, other people's packages) has versions of its own."""
FAMILIES = "mergearena.bench.symmetry.families"
"""Its ``__init__`` lists every family, and so never counts."""
ARCHITECTURE = "mergearena.bench.symmetry.architecture"  # the symmetry map, which players reach through their views

_NEVER = ("ctx", "kind", "type_comment")
"""Fields of syntax trees that follow from where a node stands, or mean nothing."""
_IMPORTS = (ast.Import, ast.ImportFrom)


def identity(module: str, families: Collection[str] = (), house: Path = HOUSE) -> str:
    """The identity of a player that is defined in a module, found in ``house`` or, if not ours, already imported.

    Args:
        module: its dotted name.
        families: modules of :data:`FAMILIES` that the play uses; what they import from one another is found.
        house: the folder of the packages' folders.

    Returns:
        A SHA-256, in hex; the same for every version of Python and every place of installation.

    Raises:
        ArenaError: a module's source is not found, or does not parse.
    """
    ours = _is_in(module, "mergearena")
    path = _path(module, house) if ours else getattr(sys.modules.get(module), "__file__", None)
    if path is None:
        raise ArenaError(f"{module}: its source is not found{f' in {house}' if ours else ''}; define players in a file")
    return _identity(_source(Path(path), module), families, house)


def identity_of_file(path: Path, families: Collection[str] = (), house: Path = HOUSE) -> str:
    """The identity of a plug-in's players, wherever it lies and whatever it is called; else as :func:`identity`."""
    return _identity(_source.__wrapped__(path.resolve(), ""), families, house)  # edited, it may be loaded again


def forget_sources() -> None:
    """Read every file anew from now on: within a process, sources are taken not to change, plug-ins aside."""
    _source.cache_clear()
    _path.cache_clear()


def _identity(player: _Source, families: Collection[str], house: Path) -> str:
    digests, waiting = {player.module: player.digest}, [player]
    while waiting:
        for module in _next(waiting.pop(), families, house):
            path = _path(module, house)
            if path is None:
                raise ArenaError(f"{house}: there is no module {module} in it")
            if module not in digests and path.suffix:  # a folder without __init__ has no code
                waiting.append(_source(path, module))
                digests[module] = waiting[-1].digest
    return _sha256("\n".join(f"{module} {digest}" for module, digest in sorted(digests.items())))


def _next(source: _Source, families: Collection[str], house: Path) -> Iterator[str]:
    """The modules that a module imports and that count."""
    for dotted in source.imported:
        if _is_ours(dotted) and _path(dotted, house) is None:
            raise ArenaError(f"{source.path}: imports {dotted}, which is not found in {house}")
    for dotted in source.reached:
        module = next((m for m in _prefixes(dotted) if _is_ours(m) and _path(m, house)), None)
        if module and _is_in(module, FAMILIES) and not _is_in(source.module, FAMILIES):
            yield from (f"{FAMILIES}.{family}" for family in families)
        elif module and module != FAMILIES:
            yield module


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_ours(module: str) -> bool:
    return any(_is_in(module, package) for package in PACKAGES)


def _prefixes(dotted: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    return (dotted.rsplit(".", dropped)[0] for dropped in range(dotted.count(".") + 1))


@cache
def _path(module: str, house: Path) -> Path | None:
    """A module's file, the folder of a package without ``__init__``, or None."""
    top, *parts = module.split(".")
    if top != "mergearena" or not parts:
        return None
    place = house.joinpath(*parts)
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files if file.is_file()), place if place.is_dir() else None)


@dataclass(frozen=True)
class _Source:
    path: Path
    module: str
    digest: str
    """SHA-256 of its own tree."""
    imported: frozenset[str]
    """Modules that it imports by name."""
    reached: frozenset[str]
    """Dotted names, as far as they are spelled out: the longest start that is a module is a module that it uses."""


@cache
def _source(path: Path, module: str) -> _Source:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = _Bare().visit(ast.parse(path.read_bytes()))
        names = _Names(tree, package, every=path.name == "__init__.py")
        digest = _sha256(names.spelled(tree))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArenaError(f"{path}: not readable as Python: {type(error).__name__}: {error}") from error
    return _Source(path, module, digest, frozenset(names.imported), frozenset(names.reached))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _Bare(ast.NodeTransformer):
    """Takes from a tree what decides nothing: docstrings, ``pass``, annotations, futures, code for type checkers."""

    in_class = False

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, in_class=True)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._inside(node, in_class=False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _inside(self, node: ast.AST, in_class: bool) -> ast.AST:
        outside, self.in_class = self.in_class, in_class
        self.generic_visit(node)
        self.in_class = outside
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self.in_class:
            return self.generic_visit(node)
        return node.value and self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None: ...

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        node.values = [v for v in node.values if getattr(v, "value", None) != ""]  # Python 3.12 adds empty ones
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _chain(node.test).rpartition(".")[2] == "TYPE_CHECKING" else node


class _Names:
    """Where the names of a bare tree come from, and the tree spelled out with them."""

    def __init__(self, tree: ast.AST, package: str, every: bool) -> None:
        """``every``: imports count even if nothing here uses them, as in a package's ``__init__``."""
        nodes = list(ast.walk(tree))
        self.package, self.every = package, every
        imports = [pair for n in nodes if isinstance(n, _IMPORTS) for pair in self._pairs(n)]
        strings = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}  # __all__
        self.used = {n.id for n in nodes if isinstance(n, ast.Name)} | strings | {"*"}
        self.imported = {self._module(n) for n in nodes if isinstance(n, ast.ImportFrom)}
        self.imported |= {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        # `import a.b` binds a; what is used of it is seen where a.b.c stands.
        bound = {(name, name if _is_in(origin, name) else origin) for name, origin in imports}
        chains = {chain for n in nodes if isinstance(n, ast.Attribute) and (chain := _chain(n))}
        uses = {f"{origin}.{c.partition('.')[2]}" for name, origin in bound for c in chains if _is_in(c, name)}
        mapped = {ARCHITECTURE for n in nodes if isinstance(n, ast.Attribute) and n.attr == "architecture"}
        self.reached = {origin for _, origin in imports} | self.imported | uses | mapped

    def _pairs(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
        """The names that an import binds, each with where it comes from."""
        start = f"{self._module(node)}." if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            yield alias.asname or (alias.name if start else alias.name.partition(".")[0]), f"{start}{alias.name}"

    def _module(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        start = self.package.split(".")[: 1 - node.level or None]
        return ".".join([*start, *([node.module] if node.module else [])])

    def spelled(self, node: object) -> str:
        """The same text for the same tree in every version of Python, which :func:`ast.dump` is not."""
        if isinstance(node, ast.AST):
            fields = ((name, getattr(node, name, None)) for name in node._fields if name not in _NEVER)
            texts = ((name, self.spelled(value)) for name, value in fields if value is not None)
            return f"{type(node).__name__}({','.join(f'{name}={text}' for name, text in texts if text != '[]')})"
        if not isinstance(node, list):
            return ascii(node)  # not repr: which characters it escapes depends on Python's version
        pairs = {pair for n in node if isinstance(n, _IMPORTS) for pair in self._pairs(n)}
        origins = sorted(f"{name}<-{origin}" for name, origin in pairs if self.every or name in self.used)
        others = (self.spelled(n) for n in node if not isinstance(n, _IMPORTS))
        return f"[{','.join([*origins, *others])}]"


def _chain(node: ast.expr) -> str:
    """``a.b.c`` of an attribute of an attribute of a name, else nothing."""
    if isinstance(node, ast.Attribute):
        start = _chain(node.value)
        return start and f"{start}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
