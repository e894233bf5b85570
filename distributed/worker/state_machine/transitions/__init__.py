"""The rules that change the tables: functions, lower modules first.

``queueing`` (ready or not, in memory or not) < ``fetching`` (inputs from peers) < ``executing`` (with the executor) <
``computing`` (a new order to compute, and the end of a key). Pure.
"""
