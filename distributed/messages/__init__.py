"""Every message that crosses between two programs of the cluster: one ``msgspec.Struct`` each, one file per link.

A message that arrives *is* the event that the state machine of the receiver handles; there is no second class. Messages
read as facts upwards (``TaskFinished``) and as orders downwards (``ComputeTask``). All are arrays on the wire (fields
by position): add new fields at the end, with a default. Data only: no behaviour.
"""
