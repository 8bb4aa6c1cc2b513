"""Documents that need a long context: facts at the start, asked for at the end, with other facts between them.

    The code of Mei is 4071. The code of Kofi is 2930. ... The code of Mei is

Whoever reads only the last few hundred tokens cannot know the answer. The numbers are drawn anew for every document.
"""

import random
from collections.abc import Iterator

from megatron_mimo.data.document import Document, is_held_out

NAMES = [
    "Ada", "Ben", "Chen", "Dora", "Emil", "Fatima", "Grace", "Hugo", "Ines", "Jun",
    "Kofi", "Lena", "Mei", "Noor", "Olga", "Pablo", "Quinn", "Rosa", "Sven", "Tara",
    "Uma", "Victor", "Wen", "Xenia", "Yusuf", "Zoe", "Amir", "Bela", "Carla", "Diego",
    "Elif", "Finn", "Gita", "Hana", "Igor", "Joana", "Kemal", "Lucia", "Milan", "Nadia",
]  # fmt: skip
DOCUMENTS = 1200
FACTS = range(20, 41)
QUESTIONS = 4
HELD_OUT_SHARE = 0.05


def recall_documents(seed: int = 0) -> Iterator[Document]:
    """DOCUMENTS texts, each with 20 to 40 facts and QUESTIONS of them asked for."""
    generator = random.Random(seed)
    for index in range(DOCUMENTS):
        names = generator.sample(NAMES, generator.choice(FACTS))
        codes = {name: generator.randrange(1000, 10_000) for name in names}
        asked = generator.sample(names, QUESTIONS)
        facts = " ".join(f"The code of {name} is {code}." for name, code in codes.items())
        answers = "\n".join(f"Which code has {name}? \\boxed{{{codes[name]}}}" for name in asked)
        split = "valid" if is_held_out(f"recall {index}", HELD_OUT_SHARE) else "train"
        yield Document(f"recall/{index}", f"{facts}\n{answers}", split)
