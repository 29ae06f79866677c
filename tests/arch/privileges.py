"""What each function does to AWS, derived from its code: which operation on which table, index or key its door can reach.

A reading of the source and of its annotations (mypy holds them to be true), without running any of it. From a function's handler it
follows every name that is mentioned, whether it is called there or only handed on: of an object it knows the class, of a protocol
every class that is made somewhere on the way and has its methods. So it may say too much (a branch nobody takes), and says too
little only where a type is `Any`; there it takes every method of that name of the classes that do I/O.

What counts in the end is what is said to `self._client`, in the classes that wiring gives a client and the name of a table or key.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers" / "common" / "sluice"

TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
"""The parts of a transaction. It needs the grants of its parts and none of its own."""
NO_CALL = frozenset({"exceptions", "close"})
"""What a client has besides its operations."""


@dataclass(frozen=True, slots=True)
class Use:
    """One operation on what a setting names: `index` is empty for the table or key itself."""

    service: str
    operation: str
    setting: str
    index: str = ""


# --- what is known of the source -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Function:
    module: Module
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: Class | None = None

    @property
    def name(self) -> str:
        return f"{self.module.name}.{self.owner.name + '.' if self.owner else ''}{self.node.name}"

    @cached_property
    def parameters(self) -> list[ast.arg]:
        given = self.node.args
        return [*given.posonlyargs, *given.args, *given.kwonlyargs]

    @cached_property
    def says_by_name(self) -> bool:
        return any(isinstance(one, ast.Name) and one.id == "getattr" for one in ast.walk(self.node))

    @cached_property
    def is_property(self) -> bool:
        return any("property" in _dotted(one) for one in self.node.decorator_list)


@dataclass(eq=False)
class Class:
    module: Module
    node: ast.ClassDef

    @property
    def name(self) -> str:
        return self.node.name

    @cached_property
    def methods(self) -> dict[str, Function]:
        bodies = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {one.name: Function(self.module, one, self) for one in self.node.body if isinstance(one, bodies)}

    @cached_property
    def bases(self) -> list[Class]:
        found = (self.module.symbol(name) for base in self.node.bases if (name := _dotted(base)))
        return [one for one in found if isinstance(one, Class)]

    @cached_property
    def is_protocol(self) -> bool:
        return any(
            _dotted(base.value if isinstance(base, ast.Subscript) else base) == "Protocol" for base in self.node.bases
        )

    @cached_property
    def fields(self) -> dict[str, ast.expr]:
        """Attribute -> its annotation, from the class body and from what __init__ sets."""
        found = {
            one.target.id: one.annotation
            for one in self.node.body
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        }
        start = self.methods.get("__init__")
        if start is None:
            return found
        annotated = {one.arg: one.annotation for one in start.parameters if one.annotation}
        for node in ast.walk(start.node):
            match node:
                case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=annotation):
                    found[name] = annotation
                case ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.Name(id=source)
                ):
                    if source in annotated:
                        found[name] = annotated[source]
        return found

    @cached_property
    def set_values(self) -> dict[str, ast.expr]:
        """Attribute -> the expression __init__ sets it to, where no annotation says more."""
        start = self.methods.get("__init__")
        found = {}
        for node in ast.walk(start.node) if start else ():
            match node:
                case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value):
                    found[name] = value
        return found

    def line(self) -> list[Class]:
        """The class and what it inherits from."""
        return self._line

    @cached_property
    def _line(self) -> list[Class]:
        return [self, *(one for base in self.bases for one in base.line())]

    def method(self, name: str) -> Function | None:
        return next((one.methods[name] for one in self.line() if name in one.methods), None)

    def annotation(self, name: str) -> tuple[Module, ast.expr] | None:
        return next(((one.module, one.fields[name]) for one in self.line() if name in one.fields), None)


@dataclass(eq=False)
class Module:
    program: Program
    name: str
    tree: ast.Module

    @cached_property
    def here(self) -> dict[str, Any]:
        """Name -> class, function, or the assignment that made it."""
        found: dict[str, Any] = {}
        for node in self._statements(self.tree.body):
            match node:
                case ast.ClassDef():
                    found[node.name] = Class(self, node)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found[node.name] = Function(self, node)
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    found[name] = node
        return found

    def _statements(self, body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            yield node
            if isinstance(node, ast.If):
                yield from self._statements([*node.body, *node.orelse])

    @cached_property
    def imported(self) -> dict[str, str]:
        """Name -> the dotted name it was imported from, wherever in the file."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
        return found

    def symbol(self, name: str) -> Any:
        """What a dotted name of this module is: a Class, Function, Module or assignment; None for what is not ours."""
        first, _, rest = name.partition(".")
        if first in self.here:
            found = self.here[first]
        elif first in self.imported:
            found = self.program.lookup(self.imported[first])
        else:
            return None
        for part in filter(None, rest.split(".")):
            if not isinstance(found, Module):
                return None
            found = found.symbol(part) or self.program.modules.get(f"{found.name}.{part}")
        return found


class Program:
    """The package and the doors' modules. `changed` gives other text to a file, by its path from the root: for tests of this."""

    def __init__(self, changed: Mapping[str, str] | None = None) -> None:
        files = {path: self._dotted(path.relative_to(PACKAGE.parent)) for path in PACKAGE.rglob("*.py")}
        files |= {path: path.stem for path in (ROOT / "functions").glob("*/*.py")}
        texts = dict(changed or {})
        self.modules: dict[str, Module] = {}
        for path, name in files.items():
            text = texts.pop(path.relative_to(ROOT).as_posix(), None) or path.read_text(encoding="utf-8")
            self.modules[name] = Module(self, name, _parsed(text))
        if texts:
            raise ValueError(f"no such file: {sorted(texts)}")

    @staticmethod
    def _dotted(path: Path) -> str:
        return ".".join(path.with_suffix("").parts).removesuffix(".__init__")

    def lookup(self, dotted: str) -> Any:
        if dotted in self.modules and "." not in dotted:
            return self.modules[dotted]
        parent, _, name = dotted.rpartition(".")
        if parent in self.modules:
            # What a package imports under the name of one of its modules hides that module, as it does for Python.
            from_itself = self.modules[parent].imported.get(name) == dotted
            return (None if from_itself else self.modules[parent].symbol(name)) or self.modules.get(dotted)
        return self.modules.get(dotted)

    @cached_property
    def classes(self) -> list[Class]:
        return [one for module in self.modules.values() for one in module.here.values() if isinstance(one, Class)]

    @cached_property
    def bindings(self) -> dict[str, list[tuple[str, str]]]:
        """Class -> (service, setting) of each place where wiring gives it a client and the name of what it keeps."""
        found: dict[str, list[tuple[str, str]]] = {}
        for node in ast.walk(self.modules["sluice.wiring"].tree):
            match node:
                case ast.Call(
                    func=ast.Name(id=name),
                    args=[ast.Attribute(attr="dynamodb" | "kms" as service), ast.Attribute(attr=setting), *_],
                ):
                    found.setdefault(name, []).append((service, setting))
        return found


# --- following a door ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Object:
    """An instance of a class of ours, or a collection, awaitable or callable of such."""

    of: Class


@dataclass(frozen=True)
class Made:
    """The class itself: called, it gives an Object."""

    of: Class


CLIENT, ANY = "client", "any"
Value = Object | Made | Function | Module | str
Values = frozenset[Value]
NOTHING: Values = frozenset()
UNKNOWN: Values = frozenset({ANY})


@dataclass
class Reach:
    """Everything that can be reached from one function. `uses` is what comes of it, with the function that says it."""

    program: Program
    functions: dict[Function, str] = field(default_factory=dict)
    made: set[Class] = field(default_factory=set)
    asked: set[tuple[Class, str]] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    said: set[tuple[str, str, str, str]] = field(default_factory=set)
    """(class that owns the client, operation, index, function that says it)"""
    named: dict[str, int] = field(default_factory=dict)
    """Method that is told the operation's name -> the position of the argument that tells it."""
    lenders: dict[str, set[str]] = field(default_factory=dict)
    """Function of no class that is lent a client -> the classes that lend it theirs."""
    _waiting: list[Function] = field(default_factory=list)

    def run(self, start: Function) -> Reach:
        self.visit(start, "the handler")
        while self._waiting:
            while self._waiting:
                Body(self, self._waiting.pop()).read()
            # Again for what has been made since it was asked.
            for owner, name in list(self.asked):
                self._dispatch(owner, name)
            for name in list(self.loose):
                self._anything(name)
        return self

    def visit(self, function: Function, because: str) -> None:
        if function not in self.functions:
            self.functions[function] = because
            self._waiting.append(function)

    def make(self, kind: Class, because: str) -> None:
        if kind not in self.made:
            self.made.add(kind)
            for name in ("__init__", "__post_init__", "__call__", "__enter__", "__aenter__", "__aexit__", "__exit__"):
                if (method := kind.method(name)) is not None:
                    self.visit(method, because)
            for name in ("__iter__", "__aiter__", "__next__", "__anext__"):
                if (method := kind.method(name)) is not None:
                    self.visit(method, because)

    def _dispatch(self, owner: Class, name: str) -> None:
        """The methods that `name` can mean on an object known as `owner`: its own, and those of what was made in its place."""
        if (own := owner.method(name)) is not None and not owner.is_protocol:
            self.visit(own, f"{owner.name}.{name}")
        for kind in list(self.made):
            stands_in = owner in kind.line() or (owner.is_protocol and owner.methods.keys() <= _all_methods(kind))
            if stands_in and (method := kind.method(name)) is not None:
                self.visit(method, f"{owner.name}.{name}")

    def _anything(self, name: str) -> None:
        for kind in list(self.made):
            if kind.name in self.program.bindings and (method := kind.methods.get(name)) is not None:
                self.visit(method, f"something of type Any .{name}")

    @property
    def uses(self) -> dict[Use, str]:
        """Each use, and one function that has it."""
        found: dict[Use, str] = {}
        for owner, operation, index, place in sorted(self.said):
            if operation == "TransactWriteItems":
                continue
            for service, setting in self.program.bindings.get(owner, ()):
                found.setdefault(Use(service, operation, setting, index), place)
        return found


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _all_methods(kind: Class) -> set[str]:
    return {name for one in kind.line() for name in one.methods}


class Body:
    """One reading of a function's body: what it mentions is reached, what it says to a client is noted."""

    def __init__(self, reach: Reach, function: Function) -> None:
        self.reach = reach
        self.function = function
        self.module = function.module
        self.names: dict[str, Values] = {}

    def read(self) -> None:
        self._parameters(self.function)
        # Twice, because a name may be used in a loop, or in a nested function, above the line that sets it.
        for _ in range(2):
            for node in self.function.node.body:
                self._statement(node)
        self._transacted()

    def _parameters(self, function: Function) -> None:
        arguments = function.node.args
        for one in function.parameters:
            if one.arg in ("self", "cls") and function.owner is not None:
                self.names[one.arg] = frozenset({Object(function.owner)})
            elif one.annotation is not None:
                self.names[one.arg] = self.annotated(self.module, one.annotation)
            else:
                self.names[one.arg] = UNKNOWN
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                self.names[rest.arg] = self.annotated(self.module, rest.annotation) if rest.annotation else UNKNOWN

    # --- types as they are written ---

    def annotated(self, module: Module, node: ast.expr) -> Values:
        """Every class of ours in an annotation, whatever holds it: a list of channels is channels, a way to make one is one."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        match node:
            case ast.Name() | ast.Attribute():
                return self._named(module, _dotted(node))
            case ast.Subscript():
                return self.annotated(module, node.value) | self.annotated(module, node.slice)
            case ast.BinOp():
                return self.annotated(module, node.left) | self.annotated(module, node.right)
            case ast.Tuple() | ast.List():
                return frozenset().union(*(self.annotated(module, one) for one in node.elts))
        return NOTHING

    def _named(self, module: Module, name: str) -> Values:
        if name.rpartition(".")[2] == "Any":
            return UNKNOWN
        found = module.symbol(name)
        match found:
            case Class():
                return frozenset({Object(found)})
            case ast.Assign(targets=[ast.Name(id="Client")]):
                return frozenset({CLIENT})
            case ast.Assign(value=value) if isinstance(value, ast.Subscript | ast.BinOp | ast.Name | ast.Attribute):
                return self.annotated(self._module_of(module, name), value)
        return NOTHING

    def _module_of(self, module: Module, name: str) -> Module:
        if name in module.here or name not in module.imported:
            return module
        return self.reach.program.modules.get(module.imported[name].rpartition(".")[0], module)

    # --- statements ---

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._nested(node)
            case ast.ClassDef():
                return
            case ast.Assign():
                value = self.value(node.value)
                for target in node.targets:
                    self._bind(target, value)
            case ast.AnnAssign():
                said = self.annotated(self.module, node.annotation)
                if node.value is not None:
                    said |= self.value(node.value) - UNKNOWN
                self._bind(node.target, said)
            case ast.For() | ast.AsyncFor():
                self._bind(node.target, self.value(node.iter))
                self._block(node.body, node.orelse)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    value = self.value(item.context_expr)
                    if item.optional_vars is not None:
                        self._bind(item.optional_vars, value)
                self._block(node.body)
            case ast.If() | ast.While():
                self.value(node.test)
                self._block(node.body, node.orelse)
            case ast.Try():
                self._block(node.body, node.orelse, node.finalbody)
                for handler in node.handlers:
                    if handler.name:
                        self.names[handler.name] = NOTHING
                    self._block(handler.body)
            case ast.Match():
                subject = self.value(node.subject)
                for case in node.cases:
                    for part in ast.walk(case.pattern):
                        if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                            self.names[part.name] = subject
                    if case.guard is not None:
                        self.value(case.guard)
                    self._block(case.body)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child)

    def _block(self, *bodies: list[ast.stmt]) -> None:
        for body in bodies:
            for node in body:
                self._statement(node)

    def _nested(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        inner = Function(self.module, node)
        kept = dict(self.names)
        self._parameters(inner)
        for decorator in node.decorator_list:
            self.value(decorator)
        self._block(node.body)
        returned = self.annotated(self.module, node.returns) if node.returns else UNKNOWN
        self.names = {**self.names, **{one.arg: kept[one.arg] for one in inner.parameters if one.arg in kept}}
        self.names[node.name] = returned

    def _bind(self, target: ast.expr, value: Values) -> None:
        match target:
            case ast.Name():
                self.names[target.id] = value
            case ast.Tuple() | ast.List():
                for one in target.elts:
                    self._bind(one, value)
            case ast.Starred():
                self._bind(target.value, value)
            case _:
                self.value(target)

    # --- expressions ---

    def value(self, node: ast.expr) -> Values:
        """What an expression can be, and everything it mentions reached."""
        match node:
            case ast.Name():
                return self._name(node.id)
            case ast.Attribute():
                return self._attribute(self.value(node.value), node.attr, node)
            case ast.Call():
                return self._call(node)
            case ast.Await() | ast.Starred() | ast.YieldFrom():
                return self.value(node.value)
            case ast.NamedExpr():
                value = self.value(node.value)
                self._bind(node.target, value)
                return value
            case ast.Lambda():
                for one in (*node.args.args, *node.args.kwonlyargs):
                    self.names.setdefault(one.arg, UNKNOWN)
                return self.value(node.body)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for part in node.generators:
                    self._bind(part.target, self.value(part.iter))
                    for test in part.ifs:
                        self.value(test)
                if isinstance(node, ast.DictComp):
                    return self.value(node.key) | self.value(node.value)
                return self.value(node.elt)
            case ast.Compare():
                for one in (node.left, *node.comparators):
                    self.value(one)
                return NOTHING
        # Whatever else there is (a list, a choice, a sum, an index) can be what its parts can be.
        parts = [self.value(one) for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
        return frozenset().union(*parts)

    def _name(self, name: str) -> Values:
        if name in self.names:
            return self.names[name]
        found = self.module.symbol(name)
        because = self.function.name
        match found:
            case Class():
                self.reach.make(found, because)
                return frozenset({Made(found)})
            case Function():
                self.reach.visit(found, because)
                return frozenset({found})
            case Module():
                return frozenset({found})
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return self._at(self._module_of(self.module, name)).value(value)
        return NOTHING

    def _at(self, module: Module) -> Body:
        """A reading of what stands in a module itself, outside of every function and class."""
        return Body(self.reach, Function(module, self.function.node))

    def _attribute(self, owners: Values, name: str, node: ast.Attribute) -> Values:
        found: set[Value] = set()
        for owner in owners:
            match owner:
                case "client":
                    self._say(name)
                case "any":
                    self.reach.loose.add(name)
                    found.add(ANY)
                case Module():
                    found |= self._at(owner)._name(name)
                    if (inner := self.reach.program.modules.get(f"{owner.name}.{name}")) and not found:
                        found.add(inner)
                case Object() | Made():
                    found |= self._member(owner.of, name)
        return frozenset(found)

    def _member(self, owner: Class, name: str) -> Values:
        if name == "_client":
            return frozenset({CLIENT})
        method = owner.method(name)
        if method is not None:
            self.reach.asked.add((owner, name))
            return self._returned(method) if method.is_property else frozenset({method})
        if (said := owner.annotation(name)) is not None:
            return self.annotated(*said)
        for kind in owner.line():
            if name in kind.set_values and "__init__" in kind.methods:
                start = Body(self.reach, kind.methods["__init__"])
                start._parameters(kind.methods["__init__"])
                return start.value(kind.set_values[name])
        return NOTHING

    def _returned(self, function: Function) -> Values:
        if function.node.returns is None:
            return UNKNOWN
        said = self.annotated(function.module, function.node.returns)
        if _dotted(function.node.returns) == "Self" and function.owner is not None:
            return said | {Object(function.owner)}
        return said

    def _call(self, node: ast.Call) -> Values:
        given = [self.value(one) for one in (*node.args, *(keyword.value for keyword in node.keywords))]
        called = _dotted(node.func)
        if called.rpartition(".")[2] == "cast" and node.args:
            return self.annotated(self.module, node.args[0])
        if called == "getattr" and CLIENT in given[0]:
            self._said_by_name(node.args[1])
            return UNKNOWN
        if called.endswith(".get_paginator") and CLIENT in self.value(node.func.value):  # type: ignore[attr-defined]
            self._note(_camel(ast.literal_eval(node.args[0])))
            return UNKNOWN
        results: set[Value] = set()
        function = self.value(node.func)
        for one in function:
            match one:
                case Made():
                    results.add(Object(one.of))
                case Function():
                    self._constants(one, node)
                    self._lent(one)
                    results |= self._returned(one)
                case Object():
                    call = one.of.method("__call__")
                    results |= self._returned(call) if call else {one}
                case _:
                    results.add(one)
        if not function:
            # Not ours: what comes out of it is what went in. A function that went in (to_thread, partial) comes out as its result.
            for one in frozenset().union(*given):
                results |= self._returned(one) | {one} if isinstance(one, Function) else {one}
        return frozenset(results)

    # --- what is said to a client ---

    def _say(self, name: str) -> None:
        if name not in NO_CALL and name != "get_paginator":
            self._note(_camel(name))

    def _note(self, operation: str) -> None:
        owner = self.function.owner
        for name in [owner.name] if owner else sorted(self._lenders()):
            index = self._index() if operation == "Query" else ""
            self.reach.said.add((name, operation, index, self.function.name))

    def _index(self) -> str:
        """The index a query of this function goes to: a constant beside the word IndexName."""
        for node in ast.walk(self.function.node):
            match node:
                case ast.Dict():
                    pairs: list[tuple[Any, ast.expr]] = [
                        (key.value if isinstance(key, ast.Constant) else None, value)
                        for key, value in zip(node.keys, node.values, strict=True)
                    ]
                case ast.Call():
                    pairs = [(one.arg, one.value) for one in node.keywords]
                case _:
                    continue
            for name, value in pairs:
                if name == "IndexName":
                    return str(ast.literal_eval(self._constant(value)))
        return ""

    def _constant(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name) and isinstance(found := self.module.symbol(node.id), ast.Assign | ast.AnnAssign):
            assert found.value is not None
            return found.value
        return node

    def _said_by_name(self, name: ast.expr) -> None:
        """`getattr(client, operation)`: the operation is a parameter, and its callers say which."""
        assert isinstance(name, ast.Name), f"{self.function.name}: what is asked of the client cannot be read"
        self.reach.named[self.function.name] = [one.arg for one in self.function.parameters].index(name.id) - 1

    def _constants(self, called: Function, node: ast.Call) -> None:
        if called.owner and called.owner.name in self.reach.program.bindings and called.says_by_name:
            Body(self.reach, called).read()
            position = self.reach.named.get(called.name)
            if position is not None:
                self._note(_camel(ast.literal_eval(node.args[position])))

    def _lent(self, called: Function) -> None:
        """A function of no class that takes a client says what it says in the name of the class that lends it one."""
        takes = any(
            CLIENT in self.annotated(called.module, one.annotation) for one in called.parameters if one.annotation
        )
        if takes and called.owner is None and self.function.owner is not None:
            lenders = self.reach.lenders.setdefault(called.name, set())
            if self.function.owner.name not in lenders:
                lenders.add(self.function.owner.name)
                self.reach._waiting.append(called)

    def _lenders(self) -> set[str]:
        return self.reach.lenders.get(self.function.name, set())

    def _transacted(self) -> None:
        """A dictionary with the one key "Put", "Update", ... and a table inside is a part of a transaction."""
        owner = self.function.owner
        if owner is None or owner.name not in self.reach.program.bindings:
            return
        for node in ast.walk(self.function.node):
            match node:
                case ast.Dict(keys=[ast.Constant(value=str(kind))]) if kind in TRANSACTED:
                    self._note(TRANSACTED[kind])


def _dotted(node: ast.expr) -> str:
    """A name with its dots; the last part only, after a dot, of what is no plain name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted(value)}.{name}"
    return ""


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def uses(program: Program, module: str, function: str) -> Reach:
    """Everything the handler `module.function` can reach. Raises LookupError where there is none."""
    start = program.modules[module].symbol(function)
    if not isinstance(start, Function):
        raise LookupError(f"{module} has no function {function}")
    return Reach(program).run(start)
