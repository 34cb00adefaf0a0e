"""The parts of an ingestor; `marketfeed.ingestor` puts them together.

Pure: `streams` (the streams file), `subscriptions` (which streams a connection carries), `diagnosis` (why a
connection failed, when to try again). With a socket: `connection`. Between the two: `outlet`, `report`.
"""
