"""The frame of the data pipeline: stages of independent tasks over shards of documents."""
