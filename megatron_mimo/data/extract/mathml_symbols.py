# ruff: noqa: E501 - tables of names and patterns read best in rows
"""Unicode mathematics -> TeX: operators, Greek, arrows, accents, fences and alphabets."""

from megatron_mimo.data.extract.words import words

FUNCTIONS = words(
    """
    arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max
    min sec sin sinh sup tan tanh Pr
    """
)
LIMITS = frozenset(FUNCTIONS - {"sin", "cos", "tan", "exp", "ln", "log"}) | frozenset(
    [
        "∑",
        "∏",
        "∐",
        "∫",
        "∬",
        "∭",
        "∮",
        "⋃",
        "⋂",
        "⨁",
        "⨂",
        "⋁",
        "⋀",
        "⨆",
        "lim sup",
        "lim inf",
        "argmax",
        "argmin",
        "arg max",
        "arg min",
    ]
)
INVISIBLE: dict[int, None] = dict.fromkeys((0x2061, 0x2062, 0x2063, 0x2064, 0x200B, 0xFE00, 0x200E, 0xFEFF))

_GREEK = """α alpha β beta γ gamma δ delta ϵ epsilon ε varepsilon ζ zeta η eta θ theta ϑ vartheta ι iota κ kappa λ lambda
μ mu µ mu ν nu ξ xi π pi ϖ varpi ρ rho ϱ varrho σ sigma ς varsigma τ tau υ upsilon ϕ phi φ varphi χ chi ψ psi ω omega
Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon Φ Phi Ψ Psi Ω Omega"""
_RELATIONS = """≤ le ⩽ leqslant ≥ ge ⩾ geqslant ≠ ne ≈ approx ≡ equiv ≅ cong ∼ sim ≃ simeq ∝ propto ≪ ll ≫ gg ∈ in ∉ notin
∋ ni ⊂ subset ⊃ supset ⊆ subseteq ⊇ supseteq ⊊ subsetneq ⊢ vdash ⊨ models ⊥ perp ∣ mid ∤ nmid ∥ parallel ≺ prec ≻ succ
→ to ← leftarrow ↔ leftrightarrow ⇒ Rightarrow ⇐ Leftarrow ⇔ Leftrightarrow ⟹ implies ⟸ impliedby ⟺ iff ↦ mapsto ⟶ longrightarrow
⟵ longleftarrow ↪ hookrightarrow ↠ twoheadrightarrow ⇀ rightharpoonup ⇌ rightleftharpoons ≜ triangleq ⊴ trianglelefteq
≲ lesssim ≳ gtrsim ⊏ sqsubset ⊑ sqsubseteq ≍ asymp ≐ doteq ⟼ longmapsto"""
_BINARY = """± pm ∓ mp × times ÷ div ⋅ cdot · cdot ∗ ast ⋆ star ∘ circ ∪ cup ∩ cap ∖ setminus ∧ wedge ∨ vee ⊕ oplus
⊗ otimes ⊖ ominus ⊙ odot ⊔ sqcup ⊓ sqcap ⋊ rtimes ⋉ ltimes ∙ bullet • bullet"""
_OTHER = """∞ infty ∂ partial ∇ nabla ∀ forall ∃ exists ∄ nexists ∅ emptyset ¬ neg ℏ hbar ℓ ell ℜ Re ℑ Im ℵ aleph ℘ wp
∑ sum ∏ prod ∐ coprod ∫ int ∬ iint ∭ iiint ∮ oint ⋃ bigcup ⋂ bigcap ⨁ bigoplus ⨂ bigotimes ⋁ bigvee ⋀ bigwedge ⨆ bigsqcup
√ surd ∠ angle △ triangle □ square ◻ square ⋄ diamond … ldots ⋯ cdots ⋮ vdots ⋱ ddots ↑ uparrow ↓ downarrow ⇑ Uparrow
⇓ Downarrow ⊤ top † dagger ‡ ddagger ⟨ langle ⟩ rangle 〈 langle 〉 rangle ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil ∴ therefore
∵ because ϝ digamma ⟦ llbracket ⟧ rrbracket ♯ sharp ♭ flat"""


def _commands(table: str) -> dict[str, str]:
    words = table.split()
    return {sign: f"\\{name}" for sign, name in zip(words[::2], words[1::2], strict=True)}


def _alphabets() -> dict[str, str]:
    """Mathematical alphanumeric symbols (U+1D400..): letters and digits with their style's command."""
    starts = {
        0x1D400: "mathbf", 0x1D434: "", 0x1D468: "boldsymbol", 0x1D49C: "mathcal", 0x1D4D0: "mathcal", 0x1D504: "mathfrak",
        0x1D538: "mathbb", 0x1D56C: "mathfrak", 0x1D5A0: "mathsf", 0x1D5D4: "mathsf", 0x1D608: "mathsf", 0x1D670: "mathtt",
    }  # fmt: skip
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    table = {
        chr(start + at): (f"\\{command}{{{letter}}}" if command else letter)
        for start, command in starts.items()
        for at, letter in enumerate(letters)
    }
    for sign, letter in zip("ℂℍℕℙℚℝℤ", "CHNPQRZ", strict=True):
        table[sign] = rf"\mathbb{{{letter}}}"
    for sign, letter in zip("ℬℰℱℋℐℒℳℛ", "BEFHILMR", strict=True):
        table[sign] = rf"\mathcal{{{letter}}}"
    for sign, letter in zip("ℭℌℨ", "CHZ", strict=True):
        table[sign] = rf"\mathfrak{{{letter}}}"
    greek = _GREEK.split()
    names = dict(zip(greek[::2], greek[1::2], strict=True))
    for at, letter in enumerate("αβγδεζηθικλμνξοπρςστυφχψω"):
        table[chr(0x1D6FC + at)] = f"\\{names[letter]}" if letter in names else letter
    return table | {"ℎ": "h", "𝜕": r"\partial"}


SYMBOLS: dict[str, str] = {
    **_alphabets(),
    **_commands(_GREEK),
    **_commands(_RELATIONS),
    **_commands(_BINARY),
    **_commands(_OTHER),
    "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$", "‖": r"\|", "−": "-", "–": "-",
    "′": "'", "″": "''", "‴": "'''", "°": r"^\circ", "∶": ":", "≔": ":=", ":=": ":=", "\xa0": r"\ ", "\\": r"\backslash",
    "ı": r"\imath", "ȷ": r"\jmath", "⁡": "", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "->": r"\to", "...": r"\ldots",
}  # fmt: skip
INFIX = frozenset(
    [*_commands(_RELATIONS), *_commands(_BINARY), "=", "<", ">", "+", "-", "−", "≔", ":=", "<=", ">="]
) - set("·⋅∘")
"""Operators written with a space on both sides when something stands before them."""

FENCES = {
    "(": "(", ")": ")", "[": "[", "]": "]", "|": "|", "‖": r"\|", "∥": r"\|", "{": r"\{", "}": r"\}", "⟨": r"\langle",
    "⟩": r"\rangle", "〈": r"\langle", "〉": r"\rangle", "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "": ".",
}  # fmt: skip
ACCENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("^", "ˆ", "̂"), ("hat", "widehat")), **dict.fromkeys(("~", "˜", "∼", "̃"), ("tilde", "widetilde")),
    **dict.fromkeys(("¯", "‾", "_", "―", "̅", "̄"), ("bar", "overline")), **dict.fromkeys(("→", "⃗", "⟶"), ("vec", "overrightarrow")),
    **dict.fromkeys(("˙", ".", "̇"), ("dot", "dot")), **dict.fromkeys(("¨", "..", "̈"), ("ddot", "ddot")), "⃛": ("dddot", "dddot"),
    **dict.fromkeys(("ˇ", "̌"), ("check", "check")), **dict.fromkeys(("˘", "̆"), ("breve", "breve")), "´": ("acute", "acute"),
    "`": ("grave", "grave"), "˚": ("mathring", "mathring"), "⏞": ("overbrace", "overbrace"), "︷": ("overbrace", "overbrace"),
    "←": ("overleftarrow", "overleftarrow"), "↔": ("overleftrightarrow", "overleftrightarrow"),
}  # fmt: skip
UNDER_ACCENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("_", "¯", "‾", "―", "̲", "̱"), ("underline", "underline")),
    **dict.fromkeys(("⏟", "︸"), ("underbrace", "underbrace")), "→": ("underrightarrow", "underrightarrow"),
}  # fmt: skip
STYLES = {
    "bold": "mathbf", "bold-italic": "boldsymbol", "double-struck": "mathbb", "script": "mathcal", "bold-script": "mathcal",
    "fraktur": "mathfrak", "bold-fraktur": "mathfrak", "sans-serif": "mathsf", "monospace": "mathtt", "-tex-calligraphic": "mathcal",
    "-tex-mathit": "mathit",
}  # fmt: skip
