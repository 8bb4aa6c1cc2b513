"""RULER (Hsieh et al., 2024): long-context problems of any length, made on the spot from texts of one's own.

Kinds, counts, prompts, answer prefixes and scores are those of NVIDIA's generator (github.com/NVIDIA/RULER,
Apache-2.0), so that scores can be compared; benchmarks/ruler_prompts.py sets both side by side. What differs:

- Words come from the haystack's text, not from a package of English words.
- Haystacks of UUID needles are filled up with sentences of the noise haystack, and documents of the question kinds are
  chosen to fill the rest, so that every prompt is within 1 % of its length.
- Each problem is fitted by itself; NVIDIA's takes the size that fits the first one.

form.py holds the kinds and their wording, haystack.py the texts, needles.py, variables.py, word_counts.py and
documents.py make problems, fit.py finds their size, task.py is the benchmark.
"""
