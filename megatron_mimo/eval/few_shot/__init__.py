"""Benchmarks as base models are asked them: worked examples, then a question; a text continued, or choices compared.

form.py says what a row of the report's table is, questions.py and texts.py hold the rows, task.py makes their problems.
"""
