"""The parts of a consumer: reading, batches, lanes, writers, dead letters. `consumer` puts them together.

What a database does with a batch is `sinks`'.
"""
