"""The firewall: read from whichever tool has it, told as rows, and asked what it lets through.

`reading.read_firewall` reads it, `exposure.exposure` says who can reach what listens, and `evaluate.decide`
what becomes of one packet.
"""
