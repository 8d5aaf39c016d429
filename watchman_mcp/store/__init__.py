"""Where the graph is kept: SQLite made from the vocabulary."""
