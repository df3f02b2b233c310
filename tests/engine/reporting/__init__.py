"""Tests of engine.reporting."""
