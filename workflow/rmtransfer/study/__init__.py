"""The YAML file as a typed configuration, the names of things, where each artifact lies.

In:  a mapping from YAML. Out: ``Config``, ``Study``, ``Layout``, ``Needs`` of memory and time; for scripts, ``Job``.
Imported by every room below and by the workflow, which parses it for every job: nothing heavy is imported here. What a
study may choose from in the rooms below is known by name alone (``catalogue``).
"""
