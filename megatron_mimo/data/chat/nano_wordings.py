"""How MiMo-nano's conversations ask for a result: with a sign, with a word, in a story.

Words and parts of sentences are drawn one by one, so that hardly two questions are alike: a small model that has seen
few forms recites them, and reads no other.
"""

import random

from megatron_mimo.data.nano.corpus_arithmetic import ArithmeticProblem

SYMBOLS = (
    "What is {id}?",
    "Please work out {id}.",
    "{id}=?",
    "Compute {id} for me.",
    "{id}",
    "{a} {operator} {b} = ?",
    "What is {a} {operator} {b}?",
    "Calculate {a} {operator} {b}.",
    "{id} =",
    "How much is {id}?",
    "What's {id}?",
    "Solve {id}",
)
"""Wordings with the operator as a sign; the first is the one of heldout.jsonl."""
FRAMES = (
    "What is {term}?",
    "How much is {term}?",
    "Please tell me {term}.",
    "{term}?",
    "Do you know how much {term} makes?",
    "I would like to know what {term} comes to.",
    "Could you work out {term} for me?",
    "Say what {term} gives.",
    "Hello! What does {term} make?",
    "Find {term}, please.",
    "My question is this: {term}.",
    "Can you give me {term}? Thanks.",
    "{term} equals what?",
    "Calculate {term}.",
    "Tell me what {term} is.",
    "Do you know what {term} is?",
    "I want to know what {term} makes.",
    "Can you say how much {term} is?",
    "Could you find out what {term} equals?",
    "{term} is what?",
)
TERMS = {
    "+": (
        "{a} plus {b}",
        "{a} plus {b}",
        "{a} plus {b}",
        "the sum of {a} and {b}",
        "the total of {a} and {b}",
        "{a} and {b} added",
    ),
    "-": ("{a} minus {b}", "{a} minus {b}", "{a} minus {b}", "the difference between {a} and {b}", "{a} less {b}"),
    "*": ("{a} times {b}", "{a} times {b}", "the product of {a} and {b}", "{a} multiplied by {b}"),
}
"""By operator: what the frames ask for."""
ORDERS = {
    "+": ("Add {a} and {b}.", "Add {b} to {a}.", "Sum {a} and {b}.", "Please add {a} and {b}."),
    "-": ("Take {b} away from {a}.", "Subtract {b} from {a}.", "Please subtract {b} from {a}."),
    "*": ("Multiply {a} by {b}.", "Multiply {a} and {b}.", "Please multiply {a} by {b}."),
}
SCENES = {
    "+": (
        "There are {a} {kind} and {b} {other} {things}.",
        "There are {a} {kind} and {b} {other} {things} {place}.",
        "{name} has {a} {kind} and {b} {other} {things}.",
        "{name} counts {a} {kind} and {b} {other} {things}.",
        "{a} {kind} and {b} {other} {things} are {place}.",
        "{a} {kind} {things} and {b} {other} ones are {place}.",
        "There are {a} {things} {place} and {b} {elsewhere}.",
        "{name} has {a} {things} and gets {b} more.",
        "{name} had {a} {things} and bought {b} more.",
        "{name} finds {a} {things} and then {b} more.",
        "{name} has {a} {things} and {friend} has {b}.",
        "{name} sold {a} {things} on {day} and {b} on {later}.",
        "{a} boys and {b} girls have {things}, one for everybody.",
    ),
    "-": (
        "{name} has {a} {things} and gives {b} away.",
        "{name} had {a} {kind} {things} and lost {b}.",
        "There are {a} {things} {place}. {name} takes {b} away.",
        "Of {a} {kind} {things} {b} are lost.",
        "{name} had {a} {things} and gave {b} to {friend}.",
        "There were {a} {things} {place}, but {b} are gone.",
    ),
    "*": (
        "{name} has {a} boxes with {b} {things} each.",
        "There are {a} shelves, and {b} {kind} {things} on each of them.",
        "{name} buys {b} {things} on each of {a} days.",
        "{a} bags hold {b} {kind} {things} each.",
    ),
}
"""By operator: what a story begins with."""
QUESTIONS = {
    "+": (
        "How many {things} are there {together}?",
        "How many {things} is that {together}?",
        "How many {things} {together}?",
        "How many are there {together}?",
        "How many is that {together}?",
    ),
    "-": ("How many {things} are left?", "How many {things} remain?", "How many are left now?", "How many remain?"),
    "*": ("How many {things} are there {together}?", "How many {things} is that?", "How many {things} are there?"),
}
"""By operator: what a story ends with."""
WORDS = {
    "together": ("together", "in all", "in total", "altogether"),
    "name": ("Ada", "Ben", "Mei", "Omar", "Lena", "Raj", "Tom", "Yuki", "Sara", "Ivan"),
    "things": (
        "coins",
        "books",
        "pens",
        "cups",
        "stones",
        "cards",
        "eggs",
        "shells",
        "nuts",
        "plates",
        "pears",
        "balls",
    ),
    "kind": ("big", "small", "old", "new", "white", "black", "blue", "yellow", "brown", "round", "heavy", "grey"),
    "place": ("on the table", "in a box", "on the floor", "in the bag", "on a shelf", "in the garden", "at home"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
"""By slot: what is drawn for it."""
SECOND = {"kind": "other", "name": "friend", "place": "elsewhere", "day": "later"}
"""Slots whose words come in twos, and the name of the second slot."""


def signs(problem: ArithmeticProblem, generator: random.Random) -> str:
    """A question with the operator as a sign."""
    return generator.choice(SYMBOLS)


def terms(problem: ArithmeticProblem, generator: random.Random) -> str:
    """A question with the operator as a word: any term in any frame, or an order."""
    if generator.random() < len(ORDERS[problem.operator]) / (len(FRAMES) + len(ORDERS[problem.operator])):
        return generator.choice(ORDERS[problem.operator])
    return generator.choice(FRAMES).format(term=generator.choice(TERMS[problem.operator]))


def stories(problem: ArithmeticProblem, generator: random.Random) -> str:
    """A question that names no operator: any scene with any of its questions, about anybody and anything."""
    told = f"{generator.choice(SCENES[problem.operator])} {generator.choice(QUESTIONS[problem.operator])}"
    for slot, words in WORDS.items():
        first, second = generator.sample(words, 2)
        told = told.replace(f"{{{slot}}}", first)
        if slot in SECOND:
            told = told.replace(f"{{{SECOND[slot]}}}", second)
    return told


def draw(problem: ArithmeticProblem, generator: random.Random) -> str:
    """A wording of one of the three kinds, with places for the numbers."""
    return generator.choice((signs, terms, terms, terms, stories, stories))(problem, generator)
