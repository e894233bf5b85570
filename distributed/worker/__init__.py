"""The worker: runs tasks, keeps their values, fetches inputs from peers."""
