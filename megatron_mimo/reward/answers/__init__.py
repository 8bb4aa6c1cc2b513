"""Mathematical answers: their text made uniform, read into structures, compared. Math-Verify parses what is left."""
