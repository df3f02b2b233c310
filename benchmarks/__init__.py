"""Measurements that a user can repeat: each module is a command."""
