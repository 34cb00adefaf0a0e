"""The API server: one client for all kinds, paced, retried and guarded by the lease; its errors; the lease itself.

What does not live here: what is written, and whether.
"""
