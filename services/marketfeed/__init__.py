"""marketfeed's services: what ingests, stores, simulates and proves.

One file per service, seams for venues, publishers and sinks, and a core without clients, clock or environment.
Planning a feed lives in `marketfeed_operator`, which this package never imports.
"""

__version__ = "0.1.0"
