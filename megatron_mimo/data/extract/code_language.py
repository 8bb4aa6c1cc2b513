# ruff: noqa: E501 - tables of names and patterns read best in rows
"""The language of a code block, from the classes and attributes that highlighters leave."""

import re

import lxml.etree as etree

from megatron_mimo.data.extract.words import words

_LANGUAGES = words(
    """
    actionscript ada apl applescript arduino asm assembly awk bash basic batch bat bibtex c c++ cc clojure cmake
    cobol coffeescript coffee console cpp crystal cs csharp css csv cuda cypher cython d dart delphi diff django
    dockerfile docker dot elixir elm erlang fish fortran fsharp f# gherkin git gdscript glsl go golang gradle
    graphql groovy haml handlebars haskell hcl hlsl html http idris ini ini ipython ipython3 java javascript jinja
    jinja2 js json json5 jsonc jsx julia kotlin latex lean less lisp llvm lua makefile make markdown mathematica
    matlab md mermaid mips mysql nasm nginx nim nix objective-c objectivec objc ocaml octave pascal patch perl php
    plpgsql postgresql powershell processing prolog properties protobuf proto pseudocode ps1 puppet purescript py
    py3 pycon pytb python python2 python3 r racket raku rb reason rst ruby rs rust sas sass sbatch scala scheme
    scss sed sh shell sh-session smalltalk solidity sparql sql stan stata svelte svg swift tcl terraform tex text
    toml ts tsx typescript vala vb vb.net vbnet verilog vhdl vim viml visualbasic vue wasm wolfram x86asm xml
    xquery yaml yml zig zsh q kdb abap agda coq isabelle maple sagemath sage gap magma bnf ebnf plain plaintext
    gams ampl
    """
)
_PREFIX = re.compile(
    r"(?:highlight-source|highlight-text|mw-highlight-lang|language|lang|source|src|highlight|hl|brush|hljs-lang|hljs|code|type|syntax)[-:_]+"
)
_BRUSH = re.compile(r"brush:\s+")
_NO_LANGUAGE = words(
    """
    none text plain plaintext default auto nohighlight code txt no-highlight undefined null
    """
)
_ALIASES = {
    "ipython3": "python",
    "ipython": "python",
    "py": "python",
    "py3": "python",
    "python3": "python",
    "golang": "go",
}
_ATTRIBUTES = ("data-lang", "data-language", "data-lexer", "data-code-language", "data-canonical-lang", "lang", "syntax", "language")  # fmt: skip
_ANCESTORS = 3


def language_of(element: etree._Element) -> str:
    """The language's name in lower case, or an empty text."""
    inner = next(element.iter("code"), None)
    for near in (inner, element, next(element.iterdescendants("pre"), None)):
        found = _language(near) if near is not None else ""
        if found:
            return _clean(found)
    node = element.getparent()
    for _ in range(_ANCESTORS):
        if node is None or node.tag in ("body", "article", "main"):
            break
        found = _language(node)
        if is_language(found):
            return _clean(found)
        node = node.getparent()
    return ""


def is_language(word: str) -> bool:
    """Whether a word is the name of a programming language."""
    return word.lower() in _LANGUAGES


def _language(element: etree._Element) -> str:
    names = _BRUSH.sub("brush:", element.get("class") or "").lower().split()
    stripped = [(name, _PREFIX.sub("", name, count=1).strip(";,:")) for name in names]
    found = next((rest for name, rest in stripped if name != rest and is_language(rest)), "")
    if found:
        return found
    for attribute in _ATTRIBUTES:
        value = (element.get(attribute) or "").lower()
        if is_language(value):
            return value
    sure = next((rest for name, rest in stripped if name.startswith(("language-", "lang-")) and rest), "")
    return sure or next((name for name in names if is_language(name)), "")


def _clean(name: str) -> str:
    name = name.lower().strip(";,:")
    return "" if name in _NO_LANGUAGE or name.startswith("line") else _ALIASES.get(name, name)
