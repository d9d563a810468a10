"""Faces: reading and checking them, drawing synthetic ones, finding twins, splitting.

Import what you need from the module that has it; this package imports nothing by itself.
"""
