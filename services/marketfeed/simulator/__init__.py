"""A venue in a process: market, websocket and REST. It speaks the venue's wire format and keeps the truth of it."""
