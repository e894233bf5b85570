"""Connections between programs: questions with answers and streams of messages over one link; servers; loops and
threads."""
