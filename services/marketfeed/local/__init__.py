"""One machine without Kubernetes: embedded servers, and processes that are kept running. Plans come from outside."""
